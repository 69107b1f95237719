"""Lists of the audit trail: filters, pages and the emails of actors."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy.orm import Session

from models.accounts.audit import record_audit
from models.database.base import utc_now
from models.pages.activity import ActivityFilter, list_activity
from tests.support.factories.rows import add_key, add_user


def actions(session: Session, **wanted: object) -> list[str]:
    page = list_activity(session, ActivityFilter(**wanted), limit=99)  # type: ignore[arg-type]
    return [row.entry.action for row in page.rows]


def test_activity_is_filtered_by_actor_target_and_action(session: Session) -> None:
    user, key = add_user(session), add_key(session)
    record_audit(session, action="key.create", actor_id=user.id, target_id=key.id)
    record_audit(session, action="key.update", actor_id=key.user_id, target_id=key.id)
    record_audit(session, action="auth.login_failed", actor_id=None, target_id=user.id)
    session.flush()

    assert actions(session) == ["auth.login_failed", "key.update", "key.create"]
    assert actions(session, actor_id=user.id) == ["key.create"]
    assert actions(session, target_id=key.id) == ["key.update", "key.create"]
    assert actions(session, action="key.update") == ["key.update"]
    assert actions(session, actor_id=user.id, action="key.update") == []


def test_activity_is_filtered_by_time(session: Session) -> None:
    record_audit(session, action="user.create", actor_id=None, target_id=None)
    session.flush()
    second = timedelta(seconds=1)
    now = utc_now()

    assert actions(session, since=now - second, until=now + second) == ["user.create"]
    assert actions(session, since=now + second) == []
    assert actions(session, until=now - second) == []


def test_activity_is_paged_with_the_emails_of_its_actors(session: Session) -> None:
    user = add_user(session)
    for n in range(3):
        record_audit(session, action=f"a.{n}", actor_id=user.id, target_id=None)
    session.flush()

    first = list_activity(session, ActivityFilter(), limit=2).rows
    rest = list_activity(session, ActivityFilter(), after=first[-1].id, limit=2).rows

    assert [row.entry.action for row in first + rest] == ["a.2", "a.1", "a.0"]
    assert {row.actor_email for row in first} == {user.email}
