"""The API key of a request. Verified keys are cached for ten seconds.

Each process caches the rows of keys that it read. The cache saves only the read: every request's
secret is verified against the cached hashes. A job is inserted only if the key's row is unchanged:
the statement in `models/jobs/inserts.py` compares its `xmin`, PostgreSQL's version of a row. So the
insert notices every change of the key or its owner. Before the API rejects a request under a cached
key, it reads the key again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from core.security.api_key_secret import KeySecret
from models.accounts.api_key import LAST_USED_RESOLUTION, ApiKey, is_proved_by
from models.accounts.user import User
from models.database.prepared import Statements

#: Seconds after which a key is read again and its use is recorded.
CACHE_SECONDS = 10.0
#: Longest usual time from the look-up of a cached key to the insert of its job.
INSERT_SECONDS = 5.0
#: Keys that one process caches.
MAX_CACHED_KEYS = 4096

_FIND_KEY = """
    select k.secret_hash, k.previous_secret_hash, k.previous_secret_expires_at,
           k.id, k.user_id, k.rate_limit, k.token_limit, k.monthly_token_limit, k.max_in_flight,
           k.priority, k.is_active, k.expires_at, k.last_used_at, now(), u.is_active, k.xmin::text
    from api_keys k join users u on u.id = k.user_id
    where k.public_id = %(public_id)s and k.deleted_at is null and u.deleted_at is null
"""
_MARK_USED = """
    update api_keys set last_used_at = now()
    where id = %(id)s and (last_used_at is null or last_used_at < now() - %(resolution)s)
"""


@dataclass(frozen=True, slots=True)
class RequestKey:
    """The key of a request, with its limits; see `ApiKey`.

    Attributes:
        seen_at: the time when the row was read, by the clock of the database.
        version: the version of the row, which every change replaces.
        is_cached: the row was not read for this request.
    """

    id: UUID
    user_id: UUID
    rate_limit: int
    token_limit: int | None
    monthly_token_limit: int | None
    max_in_flight: int | None
    priority: int
    is_active: bool
    expires_at: datetime | None
    last_used_at: datetime | None
    seen_at: datetime
    has_active_owner: bool = True
    version: str | None = None
    is_cached: bool = False

    @classmethod
    def of(cls, key: ApiKey, owner: User, now: datetime) -> RequestKey:
        """Return the key at `now`, by the clock of the database."""
        return cls(
            id=key.id,
            user_id=key.user_id,
            rate_limit=key.rate_limit,
            token_limit=key.token_limit,
            monthly_token_limit=key.monthly_token_limit,
            max_in_flight=key.max_in_flight,
            priority=key.priority,
            is_active=key.is_active,
            expires_at=key.expires_at,
            last_used_at=key.last_used_at,
            seen_at=now,
            has_active_owner=owner.is_active,
        )

    def has_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def may_be_used(self, now: datetime) -> bool:
        """Return whether the key is usable according to its row."""
        return self.is_active and self.has_active_owner and not self.has_expired(now)

    def has_recorded_use(self, now: datetime) -> bool:
        """Return whether its last use was recorded within `LAST_USED_RESOLUTION` before `now`."""
        since = now - LAST_USED_RESOLUTION
        return self.last_used_at is not None and self.last_used_at >= since


@dataclass(frozen=True, slots=True)
class _Row:
    """A key with its hashes, and the monotonic time when this process read it."""

    secret_hash: str
    previous_secret_hash: str | None
    previous_secret_expires_at: datetime | None
    key: RequestKey
    read_at: float = 0.0

    def is_proved_by(self, secret: KeySecret, now: datetime) -> bool:
        return is_proved_by(
            secret,
            self.secret_hash,
            self.previous_secret_hash,
            self.previous_secret_expires_at,
            now,
        )


class KeyCache:
    """The verified keys of one process."""

    def __init__(
        self, statements: Statements, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._statements = statements
        self._clock = clock
        self._rows: dict[str, _Row] = {}

    def cached(self, secret: KeySecret) -> RequestKey | None:
        """Return the cached and usable key of `secret`, or `None`."""
        row = self._rows.get(secret.public_id)
        if row is None:
            return None
        age = self._clock() - row.read_at
        # The monotonic clock advances the database's time; this machine's date may be wrong.
        now = row.key.seen_at + timedelta(seconds=age)
        if age >= CACHE_SECONDS or not row.is_proved_by(secret, now):
            return None
        # A use that is recorded before the job is inserted would change the row.
        if not row.key.has_recorded_use(now + timedelta(seconds=INSERT_SECONDS)):
            return None
        return row.key if row.key.may_be_used(now) else None

    def find(self, secret: KeySecret) -> RequestKey | None:
        """Read the existing key of `secret`, if its owner exists too."""
        self._rows.pop(secret.public_id, None)
        found = self._statements.run(_FIND_KEY, {"public_id": secret.public_id})
        if not found:
            return None
        present, previous, previous_ends, *values = found[0]
        row = _Row(present, previous, previous_ends, RequestKey(*values))
        if not row.is_proved_by(secret, row.key.seen_at):
            return None
        if row.key.has_recorded_use(row.key.seen_at):
            self._cache(secret.public_id, row)
        return row.key

    def mark_used(self, key: RequestKey) -> None:
        """Record the use of a key, at most once in `LAST_USED_RESOLUTION`."""
        if not key.has_recorded_use(key.seen_at):
            values = {"id": key.id, "resolution": LAST_USED_RESOLUTION}
            self._statements.run(_MARK_USED, values)

    def _cache(self, public_id: str, row: _Row) -> None:
        if len(self._rows) >= MAX_CACHED_KEYS:
            self._rows.clear()  # rare, and costs one read for each key
        self._rows[public_id] = replace(
            row,
            key=replace(row.key, is_cached=True),
            read_at=self._clock(),
        )
