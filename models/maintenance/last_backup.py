"""The time of the last backup, in one row that every API process exports to Prometheus."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, SmallInteger, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.database.base import Base


class LastBackup(Base):
    """The one row.

    Attributes:
        taken_at: the moment that the backup shows.
    """

    __tablename__ = "last_backup"
    __table_args__ = (CheckConstraint("id = 1", name="one"),)

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    taken_at: Mapped[datetime]


def note_backup(session: Session, taken_at: datetime) -> None:
    """Say that a good backup of this moment exists."""
    session.execute(
        insert(LastBackup)
        .values(id=1, taken_at=taken_at)
        .on_conflict_do_update(index_elements=["id"], set_={"taken_at": taken_at})
    )


def last_backup(session: Session) -> datetime | None:
    """Return the moment that the last good backup shows."""
    return session.scalar(select(LastBackup.taken_at))
