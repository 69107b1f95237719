"""The key that a generation came with: looked up by its secret, or believed for a few seconds.

A process keeps the rows of keys that it looked up a moment ago. A believed key saves the look, and
nothing else: each secret is proved anew against the kept hashes, and the job's row is written only
if the key's row in the database is still the very same (`models/jobs/inserts.py` compares the
version that PostgreSQL gives each row, `xmin`, in the statement that inserts). Whatever happened to
the key or its owner since, the insert finds; and what a believed key is refused, the caller looks
up anew before it is told.
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

#: After this long a key is looked up again, and its use noted.
BELIEVE_SECONDS = 10.0
#: Keys that one process keeps.
MOST_BELIEVED = 4096

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
    """What a generation must know of the key that it came with; see `ApiKey`.

    Attributes:
        seen_at: when its row was read, by the clock of the database.
        version: of its row; another one after each change of it.
        is_believed: it was not looked up for this request.
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
        """Return the key as `now` finds it, a time by the clock of the database."""
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
        """Say whether the key is good, as far as its row said."""
        return self.is_active and self.has_active_owner and not self.has_expired(now)

    @property
    def is_use_recent(self) -> bool:
        """Whether its last use was noted within `LAST_USED_RESOLUTION`."""
        since = self.seen_at - LAST_USED_RESOLUTION
        return self.last_used_at is not None and self.last_used_at >= since


@dataclass(frozen=True, slots=True)
class _Row:
    """A key as it was found, what proves it, and when it was read by this process's own seconds."""

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
    """The keys of one process's requests."""

    def __init__(
        self, statements: Statements, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._statements = statements
        self._clock = clock
        self._rows: dict[str, _Row] = {}

    def cached(self, secret: KeySecret) -> RequestKey | None:
        """Return the key that `secret` proves, if it was found a moment ago and may be used."""
        row = self._rows.get(secret.public_id)
        if row is None:
            return None
        age = self._clock() - row.read_at
        # The database's time goes on as this process's seconds do, whatever its own clock says.
        now = row.key.seen_at + timedelta(seconds=age)
        if age >= BELIEVE_SECONDS or not row.is_proved_by(secret, now):
            return None
        return row.key if row.key.may_be_used(now) else None

    def find(self, secret: KeySecret) -> RequestKey | None:
        """Look up the living key of a living owner that `secret` proves."""
        self._rows.pop(secret.public_id, None)
        found = self._statements.run(_FIND_KEY, {"public_id": secret.public_id})
        if not found:
            return None
        present, previous, previous_ends, *values = found[0]
        row = _Row(present, previous, previous_ends, RequestKey(*values))
        if not row.is_proved_by(secret, row.key.seen_at):
            return None
        if row.key.is_use_recent:  # or its row is about to change
            self._believe(secret.public_id, row)
        return row.key

    def mark_used(self, key: RequestKey) -> None:
        """Note that the key was used, at most once in `LAST_USED_RESOLUTION`."""
        if not key.is_use_recent:
            values = {"id": key.id, "resolution": LAST_USED_RESOLUTION}
            self._statements.run(_MARK_USED, values)

    def _believe(self, public_id: str, row: _Row) -> None:
        if len(self._rows) >= MOST_BELIEVED:
            self._rows.clear()  # rare, and costs each key one look
        self._rows[public_id] = replace(
            row,
            key=replace(row.key, is_cached=True),
            read_at=self._clock(),
        )
