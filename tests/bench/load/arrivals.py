"""Open arrivals: calls are sent at their planned times, whether or not earlier ones have ended.

The latency of a call counts from its planned time. So a service that stalls is charged for every
call that was due during the stall.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Protocol

from tests.bench.load.connection import BrokenResponse, Connections, Response
from tests.bench.load.mix import Call, Kind, poll_of
from tests.bench.load.tally import BROKEN, Outcome, Tally

CALL_SECONDS = 90.0
OPEN_STATES = ("queued", "running")
#: The time between two polls of a job.
POLL_SECONDS = 0.5
MOST_POLLS = 240
#: The wait for open calls after the last arrival.
DRAIN_SECONDS = 120.0
#: The resolution of the loop's clock: calls that are due within this time are sent together.
CLOCK_SECONDS = 0.001


class Supply(Protocol):
    """The source of calls and of the times between them."""

    def draw(self) -> Call: ...

    def wait_seconds(self, rate: float) -> float: ...


class Load:
    """Sends the calls of a supply to one port.

    Args:
        is_following: poll accepted jobs until they end.
        pace: tokens a second of each stream of the engine; its time is not added latency.
        most_under_way: with more open calls, arrivals end early: the service is far behind.
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
        """Send calls at the rate and for the seconds of each phase; wait for all responses."""
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
                await asyncio.sleep(0)  # late or nearly late; responses must be read all the same

    async def _make(self, call: Call, planned: float) -> None:
        response = await self._ask(call, planned)
        if call.kind is not Kind.JOB or not self._is_following:
            return
        if response is not None and response.status == 202:
            await self._poll(call, response)

    async def _poll(self, call: Call, accepted: Response) -> None:
        """Poll a job until it ends."""
        poll = poll_of(accepted.headers[b"location"].decode(), call.secret, call.tokens)
        planned = time.perf_counter() + max(POLL_SECONDS, self._engine_seconds(call))
        for _ in range(MOST_POLLS):
            await asyncio.sleep(planned - time.perf_counter())
            response = await self._ask(poll, planned)
            if response is not None and not _is_open(response):
                return
            planned = time.perf_counter() + POLL_SECONDS
        self._note(Outcome(Kind.POLL, 200, 0.0, fault="the job does not end"))

    async def _ask(self, call: Call, planned: float) -> Response | None:
        sent = time.perf_counter()
        outcome: Callable[..., Outcome] = lambda status, **more: Outcome(  # noqa: E731
            call.kind,
            status,
            planned - self._began,
            late_ms=max(0.0, sent - planned) * 1000,
            **more,
        )
        try:
            response = await self._connections.ask(call.request)
        except (BrokenResponse, OSError, TimeoutError) as error:
            self._note(outcome(BROKEN, fault=f"{type(error).__name__}: {error}"))
            return None
        tokens, fault = _check(call, response)
        is_waited_for = call.kind in (Kind.GENERATE, Kind.STREAM)
        engine_seconds = self._engine_seconds(call) if is_waited_for else 0.0
        first_ms = None
        if response.first_at and call.kind is Kind.STREAM:
            first_ms = (response.first_at - planned) * 1000
        self._note(
            outcome(
                response.status,
                added_ms=max(0.0, response.done_at - planned - engine_seconds) * 1000,
                first_ms=first_ms,
                says_when=response.headers.get(b"retry-after", b"").isdigit(),
                tokens=tokens,
                fault=fault,
            )
        )
        return response

    def _engine_seconds(self, call: Call) -> float:
        return call.tokens / self._pace if self._pace else 0.0

    async def close(self) -> None:
        await self._connections.close()

    def _note(self, outcome: Outcome) -> None:
        self._tally.outcomes.append(outcome)


def _is_open(response: Response) -> bool:
    """Say whether a polled job may still run: its state is open, or the poll failed."""
    return response.status != 200 or json.loads(response.body)["status"] in OPEN_STATES


def _check(call: Call, response: Response) -> tuple[int, str | None]:
    """Return the tokens that a response reports, and its fault if it has one."""
    if response.status != 200 or not call.tokens:
        return 0, None
    body = response.body
    if call.kind is Kind.STREAM:
        events = body.rstrip().split(b"\n\n")
        if events[-1] != b"data: [DONE]":
            return 0, f"a stream ends with {events[-1][-200:]!r}"
        body = events[-2].partition(b"data: ")[2]
    result = json.loads(body)
    if call.kind is Kind.POLL:  # the job may be open
        if result["status"] in OPEN_STATES:
            return 0, None
        if result["status"] != "succeeded":
            return 0, f"the job is {result['status']}"
        result = result["result"]
    tokens = int(result["usage"]["completion_tokens"])
    return tokens, None if tokens == call.tokens else f"{tokens} tokens instead of {call.tokens}"
