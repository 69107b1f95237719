"""Users: the people who may sign in, and their roles."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, String, func, or_, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.errors import Conflict
from core.ids import new_id
from core.text.canonical import canonical_email
from models.database.base import Base, database_now
from models.database.pagination import Keyset, read_entities


class Role(StrEnum):
    CUSTOMER = "customer"
    ADMIN = "admin"


class User(Base):
    """A person.

    Emails are stored in one form (`core/text/canonical.py`), so that one address is one user.

    Attributes:
        is_active: false while an admin suspends the user, who can do nothing then.
        token_version: every JWT of the user contains it; raising it ends all of them.
        deleted_at: nobody sees a deleted user, but the user's usage stays for billing.
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
    is_active: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    created_at: Mapped[datetime] = mapped_column(default=func.now())
    deleted_at: Mapped[datetime | None]

    @property
    def is_admin(self) -> bool:
        return self.role == Role.ADMIN


def find_user(session: Session, user_id: UUID) -> User | None:
    """Return the existing user with this id."""
    return session.scalar(select(User).where(User.id == user_id, User.deleted_at.is_(None)))


def find_user_by_email(session: Session, email: str) -> User | None:
    """Return the existing user with this email, in any spelling."""
    found = session.scalars(
        select(User).where(User.email.in_(_forms(email)), User.deleted_at.is_(None))
    ).all()
    return min(found, key=lambda user: user.email != email.lower(), default=None)


def find_user_id(session: Session, email: str) -> UUID | None:
    """Return the user with this email, or the most recently deleted one."""
    # The index has only existing users; a scan of the few deleted ones is fast enough.
    query = select(User.id).where(User.email.in_(_forms(email)))
    return session.scalar(query.order_by(User.deleted_at.desc().nulls_first()).limit(1))


def lock_user(session: Session, user_id: UUID) -> User | None:
    """Return the existing user and lock the row until the transaction ends."""
    return session.scalar(
        select(User)
        .where(User.id == user_id, User.deleted_at.is_(None))
        .with_for_update(key_share=True)  # new keys and jobs may still refer to it
        .execution_options(populate_existing=True)
    )


def has_user(session: Session, user_id: UUID) -> bool:
    """Say whether this user exists or existed before."""
    return session.scalar(select(User.id).where(User.id == user_id)) is not None


def list_users(
    session: Session, *, search: str | None, after: UUID | None, limit: int
) -> Keyset[User]:
    """Return existing users, newest first, older than the id `after`.

    Args:
        search: the beginning of the email or the name, in any case.
    """
    query = select(User).where(User.deleted_at.is_(None))
    if search:
        wanted = search.lower()
        query = query.where(
            or_(
                User.email.startswith(wanted, autoescape=True),
                func.lower(User.name).startswith(wanted, autoescape=True),
            )
        )
    return read_entities(session, query, User.id, after=after, limit=limit)


def create_user(
    session: Session,
    *,
    email: str,
    password_hash: str,
    name: str = "",
    role: Role = Role.CUSTOMER,
) -> User:
    """Add a user.

    Raises:
        Conflict: `email_taken`; the transaction is of no more use.
    """
    user = User(email=canonical_email(email), name=name, password_hash=password_hash, role=role)
    session.add(user)
    flush_email(session)
    return user


def flush_email(session: Session) -> None:
    """Write the changes of users.

    Raises:
        Conflict: `email_taken`; the transaction is of no more use.
    """
    try:
        session.flush()
    except IntegrityError as error:
        if "uq_users_email" not in str(error.orig):
            raise
        raise Conflict(
            "there is a user with this email", code="email_taken", param="email"
        ) from None


def lock_admins(session: Session) -> list[UUID]:
    """Return the admins who are not suspended, locked until the transaction ends.

    It locks all of them in one order. A transaction that waited for the lock sees the admins that
    the other one left. Call it before locking a single user: otherwise two transactions may
    deadlock.
    """
    return list(
        session.scalars(
            select(User.id)
            .where(User.role == Role.ADMIN, User.is_active, User.deleted_at.is_(None))
            .order_by(User.id)
            .with_for_update(key_share=True)
        )
    )


def _forms(email: str) -> set[str]:
    """Return the stored form of an email, and that of accounts of earlier versions."""
    return {canonical_email(email), email.lower()}


def delete_user(session: Session, user: User) -> None:
    """Delete a user and end the user's tokens and password; rows stay for billing."""
    user.deleted_at = database_now(session)
    user.token_version += 1
    user.password_hash = ""
