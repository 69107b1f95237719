"""Sessions of browsers and of API tokens, from sign-in to sign-out.

A token or cookie contains the id of its session and ends with it. Those of earlier versions contain
no id and stay valid until they expire. The database dates all times.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum, StrEnum
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    Update,
    delete,
    func,
    select,
    update,
)
from sqlalchemy import insert as insert_into
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.ids import new_id
from models.accounts.user import User
from models.database.arrays import is_among
from models.database.base import Base, database_now

#: A refresh token may be reused within this time, because its response may have been lost.
GRACE = timedelta(seconds=10)
#: The maximum of sessions of a user; a new one replaces the oldest.
MOST_OF_USER = 1000
#: Rows per deleting statement.
STEP = 500


class SessionKind(StrEnum):
    PAGE = "page"
    API = "api"


class RefusedRefresh(Enum):
    """The reason why a refresh token is refused."""

    ENDED = "ended"
    REUSED = "reused"


class UserSession(Base):
    """One session.

    Attributes:
        refreshes: the number of refreshes, which the latest refresh token contains.
        ended_at: the time of signing out, or of the reuse of a refresh token.
    """

    __tablename__ = "sessions"
    __table_args__ = (
        CheckConstraint("kind in ('page', 'api')", name="kind"),
        Index("ix_sessions_user_id_id", "user_id", "id"),
        Index("ix_sessions_expires_at", "expires_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    kind: Mapped[str] = mapped_column(String(8))
    created_at: Mapped[datetime]
    refreshes: Mapped[int] = mapped_column(default=0)
    refreshed_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]


def begin_session(session: Session, user_id: UUID, kind: SessionKind, *, life: timedelta) -> UUID:
    """Add a session of a user and return its id."""
    session_id = new_id()
    session.execute(
        insert_into(UserSession).values(
            id=session_id,
            user_id=user_id,
            kind=kind,
            created_at=func.now(),
            refreshes=0,
            expires_at=func.now() + life,
        )
    )
    too_many = (
        select(UserSession.id)
        .where(UserSession.user_id == user_id)
        .order_by(UserSession.id.desc())
        .offset(MOST_OF_USER)
        .limit(STEP)
    )
    session.execute(delete(UserSession).where(is_among(UserSession.id, too_many)))
    return session_id


def find_signed_in_user(
    session: Session, user_id: UUID, *, version: int, session_id: UUID | None
) -> User | None:
    """Return the user of a token or cookie that is still valid.

    Args:
        version: the user's `token_version` in the token or cookie.
        session_id: `None` for tokens and cookies of versions without sessions.
    """
    query = select(User).where(
        User.id == user_id, User.deleted_at.is_(None), User.token_version == version
    )
    if session_id is not None:
        query = query.where(
            select(UserSession.id)
            .where(
                UserSession.id == session_id,
                UserSession.user_id == user_id,
                UserSession.ended_at.is_(None),
                UserSession.expires_at > func.now(),
            )
            .exists()
        )
    return session.scalar(query)


def refresh_session(
    session: Session, session_id: UUID, *, number: int, life: timedelta
) -> int | RefusedRefresh:
    """Use the refresh token with this number, and return the number of the next one.

    A used token returns the same next number within `GRACE`. Later reuse may be theft: the session
    ends, which the caller must commit.
    """
    found = session.scalar(
        select(UserSession).where(UserSession.id == session_id).with_for_update()
    )
    now = database_now(session)
    if found is None or found.ended_at is not None or found.expires_at <= now:
        return RefusedRefresh.ENDED
    if number == found.refreshes:
        found.refreshes += 1
        found.refreshed_at = now
        found.expires_at = now + life
        return found.refreshes
    if number == found.refreshes - 1 and now - (found.refreshed_at or now) <= GRACE:
        return found.refreshes
    found.ended_at = now
    return RefusedRefresh.REUSED


def number_of(session: Session, session_id: UUID) -> int:
    """Return the number of a session's latest refresh token."""
    return session.scalars(select(UserSession.refreshes).where(UserSession.id == session_id)).one()


def end_session(session: Session, session_id: UUID) -> None:
    """End a session; leave an ended one unchanged."""
    session.execute(_ending().where(UserSession.id == session_id))


def end_sessions(session: Session, user_id: UUID, *, but: UUID | None = None) -> None:
    """End all sessions of a user, except `but`."""
    ending = _ending().where(UserSession.user_id == user_id)
    session.execute(ending if but is None else ending.where(UserSession.id != but))


def forget_old_sessions(session: Session) -> int:
    """Delete some expired sessions and return their number."""
    old = (
        select(UserSession.id)
        .where(UserSession.expires_at < func.now())
        .order_by(UserSession.expires_at)
        .limit(STEP)
        .with_for_update(skip_locked=True)
    )
    rows = session.execute(delete(UserSession).where(is_among(UserSession.id, old)))
    return int(getattr(rows, "rowcount", 0))


def _ending() -> Update:
    return update(UserSession).where(UserSession.ended_at.is_(None)).values(ended_at=func.now())
