"""Lists of the audit trail: filters, pages and the emails of actors."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from models.accounts.audit import record_audit
from models.database.base import utc_now
from models.pages.activity import ActivityFilter, list_actions, list_activity
from tests.support.factories.rows import add_key, add_user

HOUR = timedelta(hours=1)


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


def test_activity_is_filtered_by_kind_and_address_and_paged_both_ways(session: Session) -> None:
    actor = add_user(session)
    for n, action in enumerate(["key.create", "user.create", "key.delete", "keyring.open"] * 2):
        record_audit(
            session, action=action, actor_id=actor.id if n < 4 else None, target_id=None,
            address=f"192.0.2.{n}",
        )  # fmt: skip
        session.flush()

    def found(limit: int = 99, mark: dict[str, UUID] | None = None, **wanted: Any) -> list[str]:
        page = list_activity(session, ActivityFilter(**wanted), limit=limit, **(mark or {}))
        return [f"{row.entry.action} {row.entry.address[-1]}" for row in page.rows]

    assert list_actions(session) == ["key.create", "key.delete", "keyring.open", "user.create"]
    keys = ["key.delete 6", "key.create 4", "key.delete 2", "key.create 0"]
    assert found(action_group="key.") == keys
    assert found(action_group="key.", actor_id=actor.id) == keys[2:]
    assert found(action="user.create") == ["user.create 5", "user.create 1"]
    assert found(action_group="none.") == []
    assert found(address="192.0.2.3") == ["keyring.open 3"]
    first = list_activity(session, ActivityFilter(action_group="key."), limit=2)
    assert (first.has_before, first.has_after) == (False, True)
    assert first.rows[0].actor_email is None
    rest = list_activity(
        session, ActivityFilter(action_group="key."), after=first.rows[-1].id, limit=2
    )
    assert rest.rows[0].actor_email == actor.email
    assert found(2, {"before": rest.rows[0].id}, action_group="key.") == keys[:2]
    assert found(action_group="key.", since=utc_now() + HOUR) == []
    assert len(found(until=utc_now() + HOUR)) == 8
