"""Users: who may sign in, with what role."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, String, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.ids import new_id
from models.base import Base, utc_now


class Role(StrEnum):
    CUSTOMER = "customer"
    ADMIN = "admin"


class User(Base):
    """A person. Emails are kept in lower case, so that one address is one user.

    Attributes:
        token_version: stands in every JWT of the user; raising it ends all of them.
        deleted_at: a deleted user is gone for everyone, but its usage stays for billing.
    """

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("role in ('customer', 'admin')", name="role"),
        Index("uq_users_email", "email", unique=True, postgresql_where=text("deleted_at IS NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    email: Mapped[str] = mapped_column(String(320))
    name: Mapped[str] = mapped_column(String(200), default="")
    password_hash: Mapped[str] = mapped_column(String(200))
    role: Mapped[str] = mapped_column(String(16), default=Role.CUSTOMER)
    token_version: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    deleted_at: Mapped[datetime | None]

    @property
    def is_admin(self) -> bool:
        return self.role == Role.ADMIN


def find_user(session: Session, user_id: UUID) -> User | None:
    """Return the living user with this id."""
    return session.scalar(select(User).where(User.id == user_id, User.deleted_at.is_(None)))


def find_user_by_email(session: Session, email: str) -> User | None:
    """Return the living user with this address, whatever its case."""
    return session.scalar(
        select(User).where(User.email == email.lower(), User.deleted_at.is_(None))
    )
