"""Compares the Lua script with a small model in Python, over random calls in random order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import RateLimited
from core.ids import new_id
from core.limits.limiter import ChargeVerdict, Limiter, LineCharge
from core.limits.state import KeyUse
from tests.support.factories.limit_key import Clock, Key

JOBS = st.integers(0, 4)
STEPS = st.one_of(
    st.tuples(st.just("charge"), JOBS, st.integers(1, 60)),
    st.tuples(st.just("charge"), JOBS, st.integers(1, 60)),
    st.tuples(st.just("charge line"), JOBS, st.integers(1, 60)),
    st.tuples(st.just("settle"), JOBS, st.integers(0, 60)),
    st.tuples(st.just("release"), JOBS),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 20, 61, 86_400, 12 * 86_400])),
    st.tuples(st.just("lose")),
)
LIMITS = st.builds(
    Key,
    rate_limit=st.integers(1, 12),
    token_limit=st.none() | st.integers(20, 200),
    max_in_flight=st.none() | st.integers(1, 4),
    monthly_token_limit=st.none() | st.integers(30, 400),
)


@dataclass
class Model:
    """The usage of a key, never lost: the database and a perfect Redis in one."""

    key: Key
    clock: Clock
    requests: Counter[int] = field(default_factory=Counter)
    tokens: Counter[int] = field(default_factory=Counter)
    used: Counter[tuple[int, int]] = field(default_factory=Counter)
    in_flight_jobs: dict[UUID, tuple[int, int]] = field(default_factory=dict)
    lines: set[UUID] = field(default_factory=set)

    @property
    def minute(self) -> int:
        return int(self.clock.now // 60)

    @property
    def month(self) -> tuple[int, int]:
        now = datetime.fromtimestamp(self.clock.now, UTC)
        return now.year, now.month

    @property
    def reserved(self) -> int:
        return sum(tokens for _, tokens in self.in_flight_jobs.values())

    @property
    def counts(self) -> tuple[int, int, int, int]:
        return (
            self.requests[self.minute],
            self.tokens[self.minute],
            len(self.in_flight_jobs.keys() - self.lines),
            self.used[self.month] + self.reserved,
        )

    def charge(self, job: UUID, tokens: int) -> bool:
        if job in self.in_flight_jobs:
            return True
        requests, in_minute, in_flight, in_month = self.counts
        wanted = [
            (self.key.rate_limit, requests + 1),
            (self.key.token_limit, in_minute + tokens),
            (self.key.max_in_flight, in_flight + 1),
            (self.key.monthly_token_limit, in_month + tokens),
        ]
        if any(limit is not None and want > limit for limit, want in wanted):
            return False
        self.requests[self.minute] += 1
        self.tokens[self.minute] += tokens
        self.in_flight_jobs[job] = self.minute, tokens
        return True

    def charge_line(self, job: UUID, tokens: int) -> ChargeVerdict:
        limit = self.key.monthly_token_limit
        if job in self.in_flight_jobs:
            return ChargeVerdict.CHARGED
        if limit is not None and self.used[self.month] + tokens > limit:
            return ChargeVerdict.USED_UP
        if limit is not None and self.used[self.month] + self.reserved + tokens > limit:
            return ChargeVerdict.RESERVED
        self.in_flight_jobs[job] = 0, tokens
        self.lines.add(job)
        return ChargeVerdict.CHARGED

    def settle(self, job: UUID, used: int, *, requests: int = 0) -> None:
        minute, reserved = self.in_flight_jobs.pop(job, (None, 0))
        self.lines.discard(job)
        if minute is None:
            return
        self.used[self.month] += used
        if minute == self.minute:
            self.tokens[minute] -= max(0, reserved - used)
            self.requests[minute] -= requests

    def lose(self) -> None:
        """Lose the minute's counts and the minute of each charge: the database has neither."""
        self.requests.clear()
        self.tokens.clear()
        self.in_flight_jobs = {job: (0, tokens) for job, (_, tokens) in self.in_flight_jobs.items()}

    def recall(self, _: datetime) -> KeyUse:
        in_flight = {job: tokens for job, (_, tokens) in self.in_flight_jobs.items()}
        bulk = {job: in_flight.pop(job) for job in self.lines}
        return KeyUse(self.used[self.month], in_flight, bulk)


@settings(max_examples=300)
@given(key=LIMITS, steps=st.lists(STEPS, min_size=10, max_size=40))
def test_the_script_counts_as_the_model_does(
    redis_client: redis.Redis, key: Key, steps: list[tuple[Any, ...]]
) -> None:
    clock, jobs = Clock(), [new_id() for _ in range(5)]
    key = Key(key.rate_limit, key.token_limit, key.max_in_flight, key.monthly_token_limit)
    model, limiter = Model(key, clock), Limiter(redis_client, clock=clock)
    for name, *args in steps:
        if name == "charge":
            job, tokens = jobs[args[0]], args[1]
            assert _passes(limiter, model, job, tokens) == model.charge(job, tokens)
        elif name == "charge line":
            line = LineCharge(jobs[args[0]], key.id, args[1], key.monthly_token_limit)
            (verdict,) = limiter.charge_lines([line], recall=lambda _, began: model.recall(began))
            assert verdict.verdict == model.charge_line(jobs[args[0]], args[1])
            assert verdict.used_tokens == model.used[model.month]
        elif name == "settle":
            limiter.settle(key.id, jobs[args[0]], args[1])
            model.settle(jobs[args[0]], args[1])
        elif name == "release":
            limiter.release(key.id, jobs[args[0]])
            model.settle(jobs[args[0]], 0, requests=1)
        elif name == "wait":
            clock.now += args[0]
        else:
            redis_client.delete(f"limit:{key.id.hex}", f"limit:{key.id.hex}:flight")
            model.lose()
            limiter.read(key, recall=model.recall)
        state = limiter.read(key, recall=model.recall)
        counts = (state.requests, state.tokens, state.in_flight, state.month)
        assert tuple(count.used for count in counts) == model.counts
        assert set(limiter.in_flight(key.id)) == set(model.in_flight_jobs)


def _passes(limiter: Limiter, model: Model, job: UUID, tokens: int) -> bool:
    try:
        limiter.charge(model.key, job, tokens=tokens, recall=model.recall)
    except RateLimited:
        return False
    return True
