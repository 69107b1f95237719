"""Open arrivals: calls are made when their time has come, whether or not earlier ones are answered.

What a call takes is counted from its planned time: a service that stalls is charged for all that
would have come meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Protocol

from tests.bench.load.connection import Answer, BrokenAnswer, Connections
from tests.bench.load.mix import Call, Kind, poll_of
from tests.bench.load.tally import BROKEN, Outcome, Tally

CALL_SECONDS = 90.0
GOING_ON = ("queued", "running")
#: Between two looks at a job that goes on.
POLL_SECONDS = 0.5
#: Looks at one job at most.
MOST_POLLS = 240
#: After the last arrival, for those under way.
DRAIN_SECONDS = 120.0
#: The loop's clock is coarser than arrivals are close: what is due by then is sent together.
CLOCK_SECONDS = 0.001


class Supply(Protocol):
    """Where calls come from, and how far apart."""

    def draw(self) -> Call: ...

    def wait_seconds(self, rate: float) -> float: ...


class Load:
    """Calls of a supply, made to one port.

    Args:
        is_following: jobs that were accepted are looked at until they end.
        pace: tokens a second of each stream of the engine: what it takes is no cost of ours.
        most_under_way: with more calls open, arrivals end early: the service has long lost.
    """

    def __init__(
        self,
        supply: Supply,
        connections: Connections,
        *,
        pace: float,
        is_following: bool = True,
        most_under_way: int = 6000,
    ) -> None:
        self._supply = supply
        self._is_following = is_following
        self._connections = connections
        self._pace = pace
        self._most_under_way = most_under_way
        self._began = 0.0
        self._under_way: set[asyncio.Task[None]] = set()
        self._tally = Tally()

    async def run(self, phases: list[tuple[float, float]]) -> Tally:
        """Let calls arrive at the rate and for the seconds of each phase; wait for all answers."""
        self._tally = Tally()
        self._began = begins = time.perf_counter()
        for rate, seconds in phases:
            await self._arrive(begins, rate, seconds)
            begins += seconds
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=DRAIN_SECONDS)
        for task in list(self._under_way):
            task.cancel()
        return self._tally

    async def _arrive(self, begins: float, rate: float, seconds: float) -> None:
        planned = begins + self._supply.wait_seconds(rate)
        while planned < begins + seconds and len(self._under_way) < self._most_under_way:
            wait = planned - time.perf_counter()
            if wait > CLOCK_SECONDS:
                await asyncio.sleep(wait)
            task = asyncio.create_task(self._make(self._supply.draw(), planned))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            planned += self._supply.wait_seconds(rate)
            if wait <= CLOCK_SECONDS:
                await asyncio.sleep(0)  # late, or nearly: answers are read all the same

    async def _make(self, call: Call, planned: float) -> None:
        answer = await self._ask(call, planned)
        if call.kind is not Kind.JOB or not self._is_following:
            return
        if answer is not None and answer.status == 202:
            await self._poll(call, answer)

    async def _poll(self, call: Call, accepted: Answer) -> None:
        """Look at a job until it has ended."""
        look = poll_of(accepted.headers[b"location"].decode(), call.secret, call.tokens)
        planned = time.perf_counter() + max(POLL_SECONDS, self._engine_seconds(call))
        for _ in range(MOST_POLLS):
            await asyncio.sleep(planned - time.perf_counter())
            answer = await self._ask(look, planned)
            if answer is not None and not _goes_on(answer):
                return
            planned = time.perf_counter() + POLL_SECONDS
        self._note(Outcome(Kind.POLL, 200, 0.0, fault="the job does not end"))

    async def _ask(self, call: Call, planned: float) -> Answer | None:
        sent = time.perf_counter()
        outcome: Callable[..., Outcome] = lambda status, **more: Outcome(  # noqa: E731
            call.kind,
            status,
            planned - self._began,
            late_ms=max(0.0, sent - planned) * 1000,
            **more,
        )
        try:
            answer = await self._connections.ask(call.request)
        except (BrokenAnswer, OSError, TimeoutError) as error:
            self._note(outcome(BROKEN, fault=f"{type(error).__name__}: {error}"))
            return None
        tokens, fault = _check(call, answer)
        is_waited_for = call.kind in (Kind.GENERATE, Kind.STREAM)
        engine_seconds = self._engine_seconds(call) if is_waited_for else 0.0
        first_ms = None
        if answer.first_at and call.kind is Kind.STREAM:
            first_ms = (answer.first_at - planned) * 1000
        self._note(
            outcome(
                answer.status,
                added_ms=max(0.0, answer.done_at - planned - engine_seconds) * 1000,
                first_ms=first_ms,
                says_when=answer.headers.get(b"retry-after", b"").isdigit(),
                tokens=tokens,
                fault=fault,
            )
        )
        return answer

    def _engine_seconds(self, call: Call) -> float:
        return call.tokens / self._pace if self._pace else 0.0

    async def close(self) -> None:
        await self._connections.close()

    def _note(self, outcome: Outcome) -> None:
        self._tally.outcomes.append(outcome)


def _goes_on(answer: Answer) -> bool:
    """Say whether the job that was looked at has not ended, or nobody knows."""
    return answer.status != 200 or json.loads(answer.body)["status"] in GOING_ON


def _check(call: Call, answer: Answer) -> tuple[int, str | None]:
    """Return the tokens that an answer reports, and what is wrong with it."""
    if answer.status != 200 or not call.tokens:
        return 0, None
    body = answer.body
    if call.kind is Kind.STREAM:
        events = body.rstrip().split(b"\n\n")
        if events[-1] != b"data: [DONE]":
            return 0, f"a stream ends with {events[-1][-200:]!r}"
        body = events[-2].partition(b"data: ")[2]
    shown = json.loads(body)
    if call.kind is Kind.POLL:  # of a job that may go on
        if shown["status"] in GOING_ON:
            return 0, None
        if shown["status"] != "succeeded":
            return 0, f"the job is {shown['status']}"
        shown = shown["result"]
    tokens = int(shown["usage"]["completion_tokens"])
    return tokens, None if tokens == call.tokens else f"{tokens} tokens instead of {call.tokens}"
