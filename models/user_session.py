"""Sessions: from signing in to signing out, of a page's cookie or of tokens.

A token and a cookie name their session, and end with it. Those of earlier versions name none, and
are good until they expire. Times are those of the database, the one clock of all programs.
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
from models.base import Base, database_now, is_one_of
from models.user import User

#: A refresh token may come again within this time: its answer may have been lost.
GRACE = timedelta(seconds=10)
#: Sessions of one user; the oldest give way to new ones.
MOST_OF_USER = 1000
#: Rows that one step deletes.
STEP = 500


class SessionKind(StrEnum):
    PAGE = "page"
    API = "api"


class RefusedRefresh(Enum):
    """Why a refresh token gives no next one."""

    ENDED = "ended"
    REUSED = "reused"


class UserSession(Base):
    """One session.

    Attributes:
        refreshes: how often it was refreshed; the number stands in its latest refresh token.
        ended_at: by signing out, or because a refresh token was used again.
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
    session.execute(delete(UserSession).where(is_one_of(UserSession.id, too_many)))
    return session_id


def find_signed_in_user(
    session: Session, user_id: UUID, *, version: int, session_id: UUID | None
) -> User | None:
    """Return the living user whose token or cookie says this, unless it ended.

    Args:
        version: the user's `token_version` then.
        session_id: `None` for tokens and cookies of versions that knew no sessions.
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
    """Take the refresh token with this number, and return the number of the next one.

    A token that was taken before gives the same next one within `GRACE`. Later somebody else may
    have it: the session ends, which the caller must commit.
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
    """End a session; one that ended before stays as it is."""
    session.execute(_ending().where(UserSession.id == session_id))


def end_sessions(session: Session, user_id: UUID, *, but: UUID | None = None) -> None:
    """End all sessions of a user, but for one."""
    ending = _ending().where(UserSession.user_id == user_id)
    session.execute(ending if but is None else ending.where(UserSession.id != but))


def forget_old_sessions(session: Session) -> int:
    """Delete some sessions that have expired; return how many."""
    old = (
        select(UserSession.id)
        .where(UserSession.expires_at < func.now())
        .order_by(UserSession.expires_at)
        .limit(STEP)
        .with_for_update(skip_locked=True)
    )
    rows = session.execute(delete(UserSession).where(is_one_of(UserSession.id, old)))
    return int(getattr(rows, "rowcount", 0))


def _ending() -> Update:
    return update(UserSession).where(UserSession.ended_at.is_(None)).values(ended_at=func.now())
