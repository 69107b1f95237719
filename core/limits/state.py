"""How far a key has used its limits: what answers carry as headers, and what a refusal says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Protocol
from uuid import UUID

from core.calendar import next_month
from core.errors import RateLimited

MINUTE_SECONDS = 60
#: Nobody knows when a job will end; asking again after this long is no burden.
SLOT_RETRY_SECONDS = 1.0


class KeyLimits(Protocol):
    """A key and what it may use; `None` is no limit."""

    @property
    def id(self) -> UUID: ...
    @property
    def rate_limit(self) -> int: ...
    @property
    def token_limit(self) -> int | None: ...
    @property
    def max_in_flight(self) -> int | None: ...
    @property
    def monthly_token_limit(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class KeyUse:
    """What the database knows of a key's use, for when Redis has lost it.

    Attributes:
        used_tokens: by the jobs that ended in this month.
        in_flight: jobs that have not ended, with the tokens that each was charged.
        bulk: lines of batches that were released and have not ended, with theirs.
    """

    used_tokens: int = 0
    in_flight: Mapping[UUID, int] = field(default_factory=dict)
    bulk: Mapping[UUID, int] = field(default_factory=dict)


#: Reads a key's use since the beginning of a month (UTC) from the database, in one snapshot.
Recall = Callable[[datetime], KeyUse]


@dataclass(frozen=True, slots=True)
class LimitUse:
    """One limit: what is used of it, and when it begins again, if by a clock."""

    limit: int | None
    used: int
    resets_at: datetime | None = None

    @property
    def remaining(self) -> int | None:
        return None if self.limit is None else max(0, self.limit - self.used)


@dataclass(frozen=True, slots=True)
class LimitState:
    """A key's limits at one moment of the clock that the windows follow.

    Attributes:
        month: tokens used in this calendar month, those reserved by jobs in flight included.
        used_in_month: the same without those that are only reserved.
    """

    now: datetime
    requests: LimitUse
    tokens: LimitUse
    in_flight: LimitUse
    month: LimitUse
    used_in_month: int = 0

    @property
    def headers(self) -> dict[str, str]:
        reset = f"{max(1, -(-self.minute_seconds // 1)):.0f}s"
        shown = {"requests": self.requests, "tokens": self.tokens}
        headers = {}
        for name, count in shown.items():
            if count.limit is not None:
                headers[f"x-ratelimit-limit-{name}"] = str(count.limit)
                headers[f"x-ratelimit-remaining-{name}"] = str(count.remaining)
                headers[f"x-ratelimit-reset-{name}"] = reset
        return headers

    @property
    def minute_seconds(self) -> float:
        """Seconds until the next minute begins."""
        return MINUTE_SECONDS - self.now.timestamp() % MINUTE_SECONDS

    @property
    def month_seconds(self) -> float:
        """Seconds until the next month begins."""
        return (next_month(self.now) - self.now).total_seconds()


def state_of(limits: KeyLimits, milliseconds: int, counts: list[int]) -> LimitState:
    """Return the state out of the script's numbers: requests, tokens, used, reserved, in flight."""
    now = datetime.fromtimestamp(milliseconds / 1000, UTC)
    requests, tokens, used, reserved, in_flight = counts
    minute = now.replace(second=0, microsecond=0) + timedelta(seconds=MINUTE_SECONDS)
    return LimitState(
        now,
        requests=LimitUse(limits.rate_limit, requests, minute),
        tokens=LimitUse(limits.token_limit, tokens, minute),
        in_flight=LimitUse(limits.max_in_flight, in_flight),
        month=LimitUse(limits.monthly_token_limit, used + reserved, next_month(now)),
        used_in_month=used,
    )


def refusal(verdict: str, state: LimitState, tokens: int) -> RateLimited:
    """Return the error for the limit that the script named."""
    kind = _REFUSALS[verdict]
    is_larger_than_month = state.month.limit is not None and tokens > state.month.limit
    wait = _Wait.NEVER if kind.wait is _Wait.MONTH and is_larger_than_month else kind.wait
    seconds = {
        _Wait.NEVER: None,
        _Wait.MINUTE: state.minute_seconds,
        _Wait.MONTH: state.month_seconds,
        _Wait.SLOT: SLOT_RETRY_SECONDS,
    }
    may_retry = {} if kind.may_retry else {"x-should-retry": "false"}
    return RateLimited(
        kind.message.format(state=state, tokens=tokens),
        code=kind.code,
        retry_after_seconds=seconds[wait],
        headers={**state.headers, **may_retry},
    )


class _Wait(Enum):
    """What the next request of this kind waits for."""

    NEVER = auto()
    MINUTE = auto()
    MONTH = auto()
    SLOT = auto()


@dataclass(frozen=True, slots=True)
class _Refusal:
    code: str
    message: str
    wait: _Wait
    may_retry: bool = True


#: Waiting cannot help a request that is larger than the limit itself, nor within a month a quota
#: that is used up; tokens that are only reserved come back as jobs end.
_REFUSALS = {
    "requests": _Refusal(
        "rate_limit_exceeded",
        "the limit of {state.requests.limit} requests a minute is reached",
        _Wait.MINUTE,
    ),
    "tokens": _Refusal(
        "token_limit_exceeded",
        "of {state.tokens.limit} tokens a minute {state.tokens.remaining} are left, "
        "the request may take {tokens}",
        _Wait.MINUTE,
    ),
    "too_large": _Refusal(
        "token_limit_exceeded",
        "the request may take {tokens} tokens, more than the limit of {state.tokens.limit} a "
        "minute: send a shorter prompt or ask for a shorter answer",
        _Wait.NEVER,
        may_retry=False,
    ),
    "in_flight": _Refusal(
        "too_many_in_flight",
        "the limit of {state.in_flight.limit} jobs in flight is reached",
        _Wait.SLOT,
    ),
    "month": _Refusal(
        "monthly_quota_exceeded",
        "of {state.month.limit} tokens a month {state.month.remaining} are left, "
        "the request may take {tokens}",
        _Wait.MONTH,
        may_retry=False,
    ),
    "reserved": _Refusal(
        "monthly_quota_exceeded",
        "of {state.month.limit} tokens a month {state.month.remaining} are neither used nor "
        "reserved by jobs in flight, the request may take {tokens}",
        _Wait.SLOT,
    ),
}
