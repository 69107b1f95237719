"""The state of a key's limits: headers of responses, and errors of refused requests."""

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
#: `Retry-After` for a slot in flight: the end of a job is unknown, and a retry is cheap.
SLOT_RETRY_SECONDS = 1.0


class KeyLimits(Protocol):
    """A key and its limits; `None` is no limit."""

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
    """A key's use as read from the database, if Redis has lost it.

    Attributes:
        used_tokens: tokens of the jobs that ended in this month.
        in_flight: jobs that have not ended, with the tokens charged for each.
        bulk: released batch lines that have not ended, with the tokens charged for each.
    """

    used_tokens: int = 0
    in_flight: Mapping[UUID, int] = field(default_factory=dict)
    bulk: Mapping[UUID, int] = field(default_factory=dict)


#: Reads the use of a key since the beginning of a month (UTC) from the database, in one snapshot.
Recall = Callable[[datetime], KeyUse]


@dataclass(frozen=True, slots=True)
class LimitUse:
    """The use of one limit, and the time of its next window, if it has windows."""

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
        month: tokens used in this calendar month, or reserved by jobs in flight.
        used_in_month: tokens used in this calendar month.
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
        uses = {"requests": self.requests, "tokens": self.tokens}
        headers = {}
        for name, use in uses.items():
            if use.limit is not None:
                headers[f"x-ratelimit-limit-{name}"] = str(use.limit)
                headers[f"x-ratelimit-remaining-{name}"] = str(use.remaining)
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
    """Return the state for the script's counts: requests, tokens, used, reserved, in flight."""
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
    """Return the error for the limit that the script returned."""
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
    """The event after which the same request may pass."""

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


#: Waiting cannot help a request that is larger than the limit, nor within a month a used up quota.
#: Reserved tokens return when jobs end.
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
        "minute: send a shorter prompt or request fewer tokens",
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
