"""The time of the last backup, which every API process exports to Prometheus."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, SmallInteger, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.database.base import Base


class LastBackup(Base):
    """The one row.

    Attributes:
        taken_at: the time of the backup's snapshot.
    """

    __tablename__ = "last_backup"
    __table_args__ = (CheckConstraint("id = 1", name="one"),)

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    taken_at: Mapped[datetime]


def note_backup(session: Session, taken_at: datetime) -> None:
    """Store the time of a successful backup."""
    session.execute(
        insert(LastBackup)
        .values(id=1, taken_at=taken_at)
        .on_conflict_do_update(index_elements=["id"], set_={"taken_at": taken_at})
    )


def last_backup(session: Session) -> datetime | None:
    """Return the time of the last successful backup; `None` before the first."""
    return session.scalar(select(LastBackup.taken_at))
