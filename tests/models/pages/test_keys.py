"""The list of keys: filters, search and sorting."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from core.ids import Prefix, format_id
from models.pages.keys import KeySort, KeyStatus, list_key_page
from tests.support.factories.rows import add_key, add_user
from tests.support.factories.usage import add_usage


def test_keys_are_filtered_found_and_sorted(session: Session, now: datetime) -> None:
    user = add_user(session)
    user.email = "owner@example.com"
    keys = [add_key(session, user) for _ in range(4)]
    active, inactive, expired, deleted = keys
    for name, key in zip(("main", "old", "trial", "gone"), keys, strict=True):
        key.name = name
    inactive.is_active, expired.expires_at, deleted.deleted_at = False, now, now
    active.last_used_at = now
    add_usage(session, active, now)
    other = add_key(session)
    session.flush()

    def found(user_id: UUID | None = user.id, **wanted: Any) -> list[str]:
        page = list_key_page(
            session,
            user_id=user_id,
            now=now,
            **{"sort": KeySort.NAME, "is_descending": False, "limit": 9, **wanted},
        )
        assert page.total == len(page.rows)
        return [row.key.name for row in page.rows]

    assert found() == ["main", "old", "trial"]
    assert {status: found(status=status) for status in KeyStatus} == {
        KeyStatus.ACTIVE: ["main"],
        KeyStatus.INACTIVE: ["old"],
        KeyStatus.EXPIRED: ["trial"],
        KeyStatus.SUSPENDED: [],
    }
    user.is_active = False
    session.flush()
    assert {status: len(found(status=status)) for status in KeyStatus} == {
        **dict.fromkeys(KeyStatus, 0),
        KeyStatus.SUSPENDED: 3,
    }
    user.is_active = True
    session.flush()
    assert found(None, search="OWNER@") == ["main", "old", "trial"]
    assert found(None, search="ria") == ["trial"]
    assert found(None, search=f"bc_{other.public_id}_abcdef") == ["key"]
    assert found(None, search=format_id(Prefix.KEY, active.id)) == ["main"]
    assert found(user.id, search=other.public_id) == []
    for sort in KeySort:
        assert sorted(found(sort=sort)) == ["main", "old", "trial"]
    for sort in (KeySort.TOKENS, KeySort.LAST_USED):
        assert found(sort=sort, is_descending=True)[0] == "main"
    first = list_key_page(session, user_id=user.id, now=now, sort=KeySort.TOKENS, limit=1)
    assert (first.total, first.rows[0].tokens, first.rows[0].owner_email) == (
        3,
        15,
        "owner@example.com",
    )
