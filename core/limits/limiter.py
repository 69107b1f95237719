"""Limits each API key: requests and tokens a minute, jobs in flight, tokens a month.

One script checks all four limits and charges all or none. It uses the clock of Redis, so it is
exact over any number of API processes with any clocks. Windows are fixed: a window begins with each
minute, and with each month in UTC. Charging a job reserves its tokens. At its end a job is settled
once: its slot is free, its unused tokens return to its minute if that minute still runs, and its
used tokens count for the month.

Batch lines are charged when they are released, and only for the month. The other limits do not
apply to them, and batch lines do not count towards these limits.

Redis keys (limiter.lua names their fields):
    limit:{key id}          hash: requests and tokens of this minute, tokens of this month
    limit:{key id}:flight   hash: the jobs in flight, with what each reserved
    limit:busy              set of the keys that have jobs in flight

All keys may be lost. The next charge then reads the month and the jobs in flight from the database,
and the minute starts at zero. If Redis is away, no limit can be checked, and the request is refused
(`redis.RedisError`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib.resources import files
from typing import Any, NamedTuple
from uuid import UUID

import redis
from redis.client import Pipeline

from core.calendar import month_of
from core.errors import Unavailable
from core.limits.state import (
    MINUTE_SECONDS,
    KeyLimits,
    KeyUse,
    LimitState,
    Recall,
    refusal,
    state_of,
)
from core.redis.scripts import Scripts

NO_LIMIT = -1
#: How often one charge reads the database: repeated losses during one charge are a fault.
MAX_RECALLS = 3
_BUSY = "limit:busy"
#: Follows the tokens of a bulk job.
_BULK_MARK = "b"


@dataclass(frozen=True, slots=True)
class Reservation:
    """The tokens of a job in flight, and the minute of its charge (1970 if restored)."""

    tokens: int
    charged_at: datetime


class LineCharge(NamedTuple):
    """A batch line that waits for its release, and the tokens that it may use."""

    id: UUID
    key_id: UUID
    tokens: int
    monthly_limit: int | None


class ChargeVerdict(StrEnum):
    """The outcome of a batch line's charge."""

    CHARGED = "charged"
    #: Other jobs of the key reserve the tokens: the line may pass when they end.
    RESERVED = "reserved"
    #: The line cannot pass in this month.
    USED_UP = "month"


class LineVerdict(NamedTuple):
    """A verdict, and the tokens that the key has used in this month."""

    verdict: ChargeVerdict
    used_tokens: int


#: Reads the use of a key since a time from the database.
RecallKey = Callable[[UUID, datetime], KeyUse]


class Limiter:
    def __init__(
        self,
        client: redis.Redis,
        *,
        scripts: Scripts | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Take the client, the scripts of its process, and a clock for tests."""
        self._client = client
        text = files("core.limits").joinpath("limiter.lua").read_text()
        self._script = (scripts or Scripts(client)).register(text)
        self._clock = clock

    def charge(self, key: KeyLimits, job_id: UUID, *, tokens: int, recall: Recall) -> LimitState:
        """Charge one request of at most this many tokens, and one slot in flight.

        Repeated calls charge the same job once.

        Args:
            recall: reads the database; called only if Redis has lost the use of the key.

        Raises:
            RateLimited: a limit refuses; nothing was charged.
            redis.RedisError: Redis is away; the job may have been charged.
        """
        limits = [key.rate_limit, key.token_limit, key.max_in_flight, key.monthly_token_limit]
        args = [job_id.hex, tokens, *(NO_LIMIT if limit is None else limit for limit in limits)]
        verdict, state = self._ask(key, "charge", args, recall)
        if verdict != "charged":
            raise refusal(verdict, state, tokens)
        return state

    def charge_lines(self, lines: Sequence[LineCharge], *, recall: RecallKey) -> list[LineVerdict]:
        """Charge batch lines for the month and return the verdict of each.

        Repeated calls charge the same line once.

        Args:
            recall: reads the database; called only for keys whose use Redis has lost.

        Raises:
            redis.RedisError: Redis is away; some lines may have been charged.
        """
        for _ in range(MAX_RECALLS):
            try:
                replies = self._charge_lines(lines)
            except redis.exceptions.NoScriptError:
                self.load()
                continue
            lost = {
                line.key_id: datetime.fromtimestamp(reply[1] / 1000, UTC)
                for line, reply in zip(lines, replies, strict=True)
                if reply[0] == b"lost"
            }
            if not lost:
                return [
                    LineVerdict(ChargeVerdict(reply[0].decode()), reply[4]) for reply in replies
                ]
            for key_id, now in lost.items():
                began = month_of(now)
                self._recall(key_id, began, recall(key_id, began))
        raise Unavailable("the limits are being restored, try again soon", code="queue_unavailable")

    def _charge_lines(self, lines: Sequence[LineCharge]) -> list[Any]:
        with self._client.pipeline(transaction=False) as pipe:
            for line in lines:
                most = NO_LIMIT if line.monthly_limit is None else line.monthly_limit
                args = [line.id.hex, f"{line.tokens}{_BULK_MARK}", most]
                self._run(line.key_id, "reserve", args, pipe=pipe)
            replies: list[Any] = pipe.execute()
            return replies

    def read(self, key: KeyLimits, *, recall: Recall) -> LimitState:
        """Return the state of each limit; nothing is charged.

        Raises:
            redis.RedisError: Redis is away.
        """
        return self._ask(key, "read", [], recall)[1]

    def check_requests(self, key: KeyLimits, *, recall: Recall) -> None:
        """Check that the key has a request left in this minute; raises like `charge`."""
        state = self.read(key, recall=recall)
        if state.requests.remaining == 0:
            raise refusal("requests", state, 0)

    def count_request(self, key: KeyLimits, *, recall: Recall) -> LimitState:
        """Count a request that made no job but cost as much as one with a job."""
        return self._ask(key, "count", [], recall)[1]

    def settle(
        self, key_id: UUID, job_id: UUID, used_tokens: int, *, pipe: Pipeline | None = None
    ) -> None:
        """Settle a job that has ended; repeated calls do nothing.

        Args:
            pipe: sends the call later, with others; its `execute` raises `NoScriptError` until
                `load` was called.

        Raises:
            redis.RedisError: Redis is away; the limit reconciler of the workers settles the job.
        """
        self._run(key_id, "settle", [job_id.hex, used_tokens, 0], pipe=pipe)

    def release(self, key_id: UUID, job_id: UUID, *, pipe: Pipeline | None = None) -> None:
        """Take back the whole charge, including its request, because no job was made.

        Raises:
            redis.RedisError: Redis is away.
        """
        self._run(key_id, "settle", [job_id.hex, 0, 1], pipe=pipe)

    def restore(self, key_id: UUID, reserved: Mapping[UUID, int], *, is_bulk: bool = False) -> None:
        """Put missing jobs back in flight, with the tokens that each was charged.

        Only for jobs that still had not ended after `in_flight` lacked them: a job that was settled
        in between would count twice. See `worker/maintenance/limit_reconciler.py`.
        """
        if reserved:
            self._run(key_id, "restore", _pairs(reserved, is_bulk=is_bulk))

    def in_flight(self, key_id: UUID) -> dict[UUID, Reservation]:
        """Return the jobs in flight, including bulk jobs."""
        entries: Iterable[tuple[bytes, bytes]] = self._client.hscan_iter(
            f"limit:{key_id.hex}:flight", count=1000
        )
        return {UUID(hex=job.decode()): _reservation(entry) for job, entry in entries}

    def busy_keys(self) -> Iterator[UUID]:
        """Yield the keys that have jobs in flight."""
        for member in self._client.sscan_iter(_BUSY, count=1000):
            yield UUID(hex=member.decode())

    def _ask(
        self, key: KeyLimits, command: str, args: list[Any], recall: Recall
    ) -> tuple[str, LimitState]:
        for _ in range(MAX_RECALLS):
            verdict, milliseconds, *counts = self._run(key.id, command, args)
            state = state_of(key, milliseconds, counts)
            if verdict != b"lost":
                return verdict.decode(), state
            began = month_of(state.now)
            self._recall(key.id, began, recall(began))
        raise Unavailable("the limits are being restored, try again soon", code="queue_unavailable")

    def _recall(self, key_id: UUID, began: datetime, use: KeyUse) -> None:
        month = began.year * 12 + began.month - 1
        pairs = [*_pairs(use.in_flight), *_pairs(use.bulk, is_bulk=True)]
        self._run(key_id, "recall", [month, use.used_tokens, *pairs])

    def _run(
        self,
        key_id: UUID,
        command: str,
        args: list[Any],
        *,
        pipe: Pipeline | None = None,
    ) -> Any:
        now = "" if self._clock is None else round(self._clock() * 1000)
        name = f"limit:{key_id.hex}"
        keys = [name, f"{name}:flight", _BUSY]
        values = [command, now, key_id.hex, *args]
        if pipe is not None:
            # The script object of redis-py would check before each pipeline whether Redis knows it.
            return pipe.evalsha(self._script.sha, len(keys), *keys, *values)
        return self._script(keys=keys, args=values)

    def load(self) -> None:
        """Load the script into Redis, for calls by pipeline.

        Raises:
            redis.RedisError: Redis is away.
        """
        self._client.script_load(self._script.text)


def _pairs(reserved: Mapping[UUID, int], *, is_bulk: bool = False) -> list[Any]:
    mark = _BULK_MARK if is_bulk else ""
    return [part for job, tokens in reserved.items() for part in (job.hex, f"{tokens}{mark}")]


def _reservation(entry: bytes) -> Reservation:
    minute, tokens = entry.rstrip(_BULK_MARK.encode()).split(b":")
    charged_at = datetime.fromtimestamp(int(minute) * MINUTE_SECONDS, UTC)
    return Reservation(int(tokens), charged_at)
