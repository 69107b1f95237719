from __future__ import annotations

import time
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from core.ids import new_id
from models.accounts.session import (
    GRACE,
    MOST_OF_USER,
    RefusedRefresh,
    SessionKind,
    UserSession,
    begin_session,
    end_session,
    end_sessions,
    find_signed_in_user,
    forget_old_sessions,
    refresh_session,
)
from models.accounts.user import User
from models.database.base import utc_now
from tests.support.factories.rows import add_user

LIFE = timedelta(days=1)


def begin(session: Session, user: User, life: timedelta = LIFE) -> UUID:
    return begin_session(session, user.id, SessionKind.API, life=life)


def is_signed_in(session: Session, user: User, session_id: UUID | None) -> bool:
    found = find_signed_in_user(session, user.id, version=0, session_id=session_id)
    return found is not None


def test_a_session_lasts_until_it_ends_or_expires(session: Session) -> None:
    user, other = add_user(session), add_user(session)
    lasting, ended, expired = (
        begin(session, user),
        begin(session, user),
        begin(session, user, -LIFE),
    )
    end_session(session, ended)

    assert is_signed_in(session, user, lasting)
    assert is_signed_in(session, user, None)
    for session_id in (ended, expired, begin(session, other)):
        assert not is_signed_in(session, user, session_id)
    assert find_signed_in_user(session, user.id, version=1, session_id=lasting) is None


def test_all_sessions_of_a_user_end_but_one(session: Session) -> None:
    user, other = add_user(session), add_user(session)
    current, ended, others = begin(session, user), begin(session, user), begin(session, other)

    end_sessions(session, user.id, but=current)

    assert is_signed_in(session, user, current)
    assert not is_signed_in(session, user, ended)
    assert is_signed_in(session, other, others)


def test_a_refresh_extends_the_session(session: Session) -> None:
    user = add_user(session)
    session_id = begin(session, user, timedelta(minutes=1))

    assert refresh_session(session, session_id, number=0, life=LIFE) == 1

    left = session.scalar(select(UserSession.expires_at - func.now()))
    assert left == LIFE


def test_a_used_refresh_number_stays_valid_for_the_grace_only(session: Session) -> None:
    session_id = begin(session, add_user(session))
    assert refresh_session(session, session_id, number=0, life=LIFE) == 1
    assert refresh_session(session, session_id, number=0, life=LIFE) == 1

    session.execute(update(UserSession).values(refreshed_at=func.now() - 2 * GRACE))
    session.expire_all()

    assert refresh_session(session, session_id, number=0, life=LIFE) is RefusedRefresh.REUSED
    assert refresh_session(session, session_id, number=1, life=LIFE) is RefusedRefresh.ENDED


def test_an_old_refresh_number_ends_the_session_at_once(session: Session) -> None:
    session_id = begin(session, add_user(session))
    for number in range(2):
        refresh_session(session, session_id, number=number, life=LIFE)

    assert refresh_session(session, session_id, number=0, life=LIFE) is RefusedRefresh.REUSED


def test_sessions_of_a_user_are_bounded(session: Session) -> None:
    user, other = add_user(session), add_user(session)
    first = begin(session, user)
    others = begin(session, other)
    for _ in range(MOST_OF_USER - 1):
        begin(session, user)
    assert is_signed_in(session, user, first)

    begin(session, user)

    assert not is_signed_in(session, user, first)
    assert is_signed_in(session, other, others)


def test_expired_sessions_are_deleted_and_others_stay(session: Session) -> None:
    user = add_user(session)
    begin(session, user, -LIFE)
    lasting = begin(session, user)

    assert (forget_old_sessions(session), forget_old_sessions(session)) == (1, 0)

    assert session.scalars(select(UserSession.id)).all() == [lasting]


@pytest.mark.alone
def test_a_sign_in_is_quick_while_statistics_are_old(session: Session) -> None:
    """While most of a table's rows are dead, PostgreSQL expects few in it."""
    add_sessions(session, add_user(session), 4 * MOST_OF_USER)
    session.rollback()
    user = add_user(session)
    begin(session, user)
    session.execute(text("analyze sessions"))
    add_sessions(session, user, MOST_OF_USER)

    began = time.monotonic()
    for _ in range(5):
        begin(session, user)

    assert time.monotonic() - began < 0.5


def add_sessions(session: Session, user: User, count: int) -> None:
    session.add_all(
        UserSession(
            id=new_id(),
            user_id=user.id,
            kind=SessionKind.API,
            created_at=utc_now(),
            refreshes=0,
            expires_at=utc_now() + LIFE,
        )
        for _ in range(count)
    )
    session.flush()
