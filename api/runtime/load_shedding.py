"""Lets generations in only as fast as this process admits them.

A process that gets more than it has time for would work a little on all of them and answer none in
time. So when one that was let in is not admitted within `MAX_ADMISSION_SECONDS`, the next are
refused at the door, for a small part of what admitting costs, until the oldest has gone through.
Only admission counts: waiting for a client's body, or for an answer, takes no time of the process.
Looks, cancelling and everything that people do are not refused: they belong to what was let in.
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from flask import Flask, g, request

from core.errors import Unavailable

#: Those that generate, our own and that of OpenAI's API.
BLUEPRINTS = frozenset({"generate", "v1_generate"})
#: Fewer than these at the door are no crowd: one of them met a slow statement.
CROWD = 16
#: Callers that are refused together shall not come back together.
RETRY_SECONDS = (1.0, 3.0)


class Entrance:
    """Those of one process that were let in and are not admitted yet, the oldest first."""

    def __init__(self, *, max_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_seconds = max_seconds
        self._clock = clock
        self._since: OrderedDict[object, float] = OrderedDict()

    def enter(self) -> object:
        """Let one more in; `leave` takes what is returned.

        Raises:
            Unavailable: there is a crowd, and its oldest has been there for too long.
        """
        now = self._clock()
        if len(self._since) >= CROWD:
            seconds = now - next(iter(self._since.values()))
            if seconds > self._max_seconds:
                raise Unavailable(
                    f"requests wait for {seconds:.1f} seconds to be taken, try again soon",
                    code="overloaded",
                    retry_after_seconds=random.uniform(*RETRY_SECONDS),  # noqa: S311 - no secret
                )
        ticket = object()
        self._since[ticket] = now
        return ticket

    def leave(self, ticket: object) -> None:
        """Forget one that was admitted or refused; a second time does nothing."""
        self._since.pop(ticket, None)

    @contextmanager
    def outside(self, ticket: object) -> Iterator[None]:
        """Let one wait for its client without being counted: how slow that is says nothing."""
        since = self._since.pop(ticket, None)
        began = self._clock()
        try:
            yield
        finally:
            if since is not None:
                self._since[ticket] = since + self._clock() - began


def register_entrance(app: Flask, entrance: Entrance) -> None:
    """Put the entrance before everything that generates."""

    def enter() -> None:
        if request.blueprint in BLUEPRINTS:
            ticket = entrance.enter()
            g.leave_entrance = lambda: entrance.leave(ticket)
            g.wait_outside = lambda: entrance.outside(ticket)

    app.before_request(enter)
    app.teardown_request(lambda error: leave_entrance())


def leave_entrance() -> None:
    """Say that the present request is admitted: from now on it only waits."""
    if "leave_entrance" in g:
        g.leave_entrance()


def outside_entrance() -> AbstractContextManager[None]:
    """Return what stands around a wait for the client of the present request."""
    return g.wait_outside() if "wait_outside" in g else nullcontext()
