from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from sqlalchemy.orm import Session

from core.config.settings import Settings
from core.security.api_key_secret import KeySecret
from models.accounts.api_key import (
    ApiKey,
    count_keys,
    create_key,
    delete_keys_of,
    find_key,
    find_key_by_secret,
    find_owner_of_key,
    list_keys,
    lock_key,
    rotate_secret,
)
from models.accounts.key_cache import KeyCache
from models.database.base import SessionFactory, database_now, open_database, utc_now
from models.database.prepared import Statements
from tests.support.factories.rows import add_key, add_user


def test_a_key_is_found_only_by_its_secret(session: Session) -> None:
    key, secret = create_key(session, user_id=add_user(session).id, name="k", rate_limit=1)
    forged = KeySecret(secret.public_id, KeySecret.generate().random)

    found = find_key_by_secret(session, secret)

    assert found is not None
    assert found[0].id == key.id
    assert find_key_by_secret(session, forged) is None
    assert find_key_by_secret(session, KeySecret.generate()) is None


def test_no_column_contains_the_secret(session: Session) -> None:
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

    first = list_keys(session, user_id=user.id, after=None, limit=2).rows
    rest = list_keys(session, user_id=user.id, after=first[-1].id, limit=2).rows

    assert [key.id for key in first + rest] == [key.id for key in reversed(keys)]


def test_last_use_is_written_at_most_once_a_minute(
    base_settings: Settings, database: SessionFactory
) -> None:
    engine = open_database(base_settings, is_autocommit=True)
    keys = KeyCache(Statements(engine, max_idle=1))
    with database.begin() as session:
        key, secret = create_key(session, user_id=add_user(session).id, name="k", rate_limit=1)
    seen = []

    for seconds in (0, 30, 61):
        with database.begin() as session:
            found = session.get_one(ApiKey, key.id)
            if seen:
                found.last_used_at = database_now(session) - timedelta(seconds=seconds)
            before = found.last_used_at
        presented = keys.find(secret)
        assert presented is not None
        keys.mark_used(presented)
        with database() as session:
            seen.append(session.get_one(ApiKey, key.id).last_used_at != before)
    engine.dispose()

    assert seen == [True, False, True]


def test_a_cached_key_is_read_again_before_its_next_use_is_recorded(
    base_settings: Settings, database: SessionFactory
) -> None:
    engine = open_database(base_settings, is_autocommit=True)
    times = iter([0.0, 0.0, 2.0, 4.0])
    keys = KeyCache(Statements(engine, max_idle=1), clock=lambda: next(times))
    with database.begin() as session:
        key, secret = create_key(session, user_id=add_user(session).id, name="k", rate_limit=1)
        key.last_used_at = database_now(session) - timedelta(seconds=52)
    assert keys.find(secret) is not None

    is_cached = [keys.cached(secret) is not None for _ in range(3)]
    engine.dispose()

    assert is_cached == [True, True, False]


def test_after_a_rotation_both_secrets_work_until_the_grace_ends(session: Session) -> None:
    key, old = create_key(session, user_id=add_user(session).id, name="k", rate_limit=1)

    new = rotate_secret(session, key, grace=timedelta(seconds=60))
    session.flush()

    ends = key.previous_secret_expires_at
    assert ends is not None
    assert new.public_id == old.public_id
    assert find_key_by_secret(session, new) is not None
    assert find_key_by_secret(session, old) is not None
    assert key.accepts(old, ends - timedelta(microseconds=1))
    assert not key.accepts(old, ends)
    assert key.accepts(new, ends)


def test_without_a_grace_the_old_secret_stops_at_once(session: Session) -> None:
    key, old = create_key(session, user_id=add_user(session).id, name="k", rate_limit=1)

    rotate_secret(session, key, grace=timedelta(0))
    session.flush()

    assert find_key_by_secret(session, old) is None
    assert key.previous_secret_hash is None


def test_a_second_rotation_ends_the_secret_before_the_last(session: Session) -> None:
    key, first = create_key(session, user_id=add_user(session).id, name="k", rate_limit=1)
    second = rotate_secret(session, key, grace=timedelta(days=7))
    third = rotate_secret(session, key, grace=timedelta(days=7))
    now = utc_now()

    assert [key.accepts(secret, now) for secret in (first, second, third)] == [False, True, True]


def test_after_concurrent_rotations_the_last_two_secrets_work(database: SessionFactory) -> None:
    with database.begin() as session:
        key_id = add_key(session).id

    def rotate(_: int) -> KeySecret:
        with database.begin() as session:
            key = lock_key(session, key_id)
            assert key is not None
            return rotate_secret(session, key, grace=timedelta(days=1))

    with ThreadPoolExecutor(6) as pool:
        secrets = list(pool.map(rotate, range(6)))

    with database() as session:
        assert sum(find_key_by_secret(session, secret) is not None for secret in secrets) == 2


def test_all_keys_of_a_user_end_together_and_stay_known_for_billing(session: Session) -> None:
    user = add_user(session)
    keys, other = [add_key(session, user) for _ in range(2)], add_key(session)

    assert count_keys(session, [user.id, other.user_id]) == {user.id: 2, other.user_id: 1}
    assert delete_keys_of(session, user.id) == 2
    session.expire_all()

    assert [find_key(session, key.id) for key in keys] == [None, None]
    assert find_key(session, other.id) is not None
    assert count_keys(session, [user.id]) == {}
    assert find_owner_of_key(session, keys[0].id) == user.id
