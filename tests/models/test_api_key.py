from __future__ import annotations

from datetime import timedelta

from sqlalchemy.orm import Session

from core.key_secret import KeySecret
from models.api_key import ApiKey, create_key, find_key, find_key_by_secret, list_keys, mark_used
from models.base import utc_now
from tests.models.factories import add_key, add_user


def test_a_key_is_found_by_its_secret_and_by_nothing_near_it(session: Session) -> None:
    key, secret = create_key(session, user_id=add_user(session).id, name="k", rate_limit=1)
    forged = KeySecret(secret.public_id, KeySecret.generate().random)

    found = find_key_by_secret(session, secret)

    assert found is not None
    assert found[0].id == key.id
    assert find_key_by_secret(session, forged) is None
    assert find_key_by_secret(session, KeySecret.generate()) is None


def test_the_secret_is_stored_nowhere(session: Session) -> None:
    key, secret = create_key(session, user_id=add_user(session).id, name="k", rate_limit=1)

    stored = [str(getattr(key, column.key)) for column in ApiKey.__table__.columns]

    assert not [value for value in stored if secret.random in value]


def test_a_deleted_key_or_owner_ends_the_key(session: Session) -> None:
    user = add_user(session)
    deleted, orphaned = add_key(session, user), add_key(session)
    deleted.deleted_at = utc_now()
    session.get_one(type(user), orphaned.user_id).deleted_at = utc_now()
    session.flush()

    assert find_key(session, deleted.id) is None
    assert find_key(session, orphaned.id) is None


def test_a_list_has_one_users_keys_newest_first(session: Session) -> None:
    user = add_user(session)
    keys = [add_key(session, user) for _ in range(3)]
    add_key(session)

    first = list_keys(session, user_id=user.id, after=None, limit=2)
    rest = list_keys(session, user_id=user.id, after=first[-1].id, limit=2)

    assert [key.id for key in first + rest] == [key.id for key in reversed(keys)]


def test_last_use_is_written_at_most_once_a_minute(session: Session) -> None:
    key, now = add_key(session), utc_now()

    for seconds in (0, 30, 61):
        session.expire(key)
        mark_used(session, key, now + timedelta(seconds=seconds))
        if seconds == 30:
            session.expire(key)
            assert key.last_used_at == now

    session.expire(key)
    assert key.last_used_at == now + timedelta(seconds=61)
