"""Sheds load: refuses new generations while this process admits them too slowly.

A process that accepts more requests than it has time for would work a little on all of them and
finish none in time. So when an accepted request is not admitted within `MAX_ADMISSION_SECONDS`, the
process refuses the next ones, until the oldest is admitted. A refusal costs a small part of an
admission. Only admission counts: waiting for the body or for the completion takes no time of the
process. Polls, cancellations and the calls of people are never refused: they belong to work that
the service has accepted.
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from flask import Flask, g, request

from core.errors import Unavailable

#: The calls that generate, those below `/v1` included.
BLUEPRINTS = frozenset({"generate", "v1_generate"})
#: With fewer pending admissions, a slow one is a slow statement and no overload.
MIN_PENDING = 16
#: Random, so that callers that are refused together do not return together.
RETRY_SECONDS = (1.0, 3.0)


class LoadShedder:
    """The pending admissions of one process, oldest first."""

    def __init__(self, *, max_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_seconds = max_seconds
        self._clock = clock
        self._since: OrderedDict[object, float] = OrderedDict()

    def begin(self) -> object:
        """Begin an admission; returns the ticket that `end` takes.

        Raises:
            Unavailable: many admissions are pending, and the oldest has waited too long.
        """
        now = self._clock()
        if len(self._since) >= MIN_PENDING:
            seconds = now - next(iter(self._since.values()))
            if seconds > self._max_seconds:
                raise Unavailable(
                    f"requests wait {seconds:.1f} seconds for admission, try again soon",
                    code="overloaded",
                    retry_after_seconds=random.uniform(*RETRY_SECONDS),  # noqa: S311 - no secret
                )
        ticket = object()
        self._since[ticket] = now
        return ticket

    def end(self, ticket: object) -> None:
        """End an admission, granted or refused; a second call does nothing."""
        self._since.pop(ticket, None)

    @contextmanager
    def paused(self, ticket: object) -> Iterator[None]:
        """Do not count the time of the block: a slow client is no sign of overload."""
        since = self._since.pop(ticket, None)
        began = self._clock()
        try:
            yield
        finally:
            if since is not None:
                self._since[ticket] = since + self._clock() - began


def register_load_shedding(app: Flask, shedder: LoadShedder) -> None:
    """Begin an admission before each request that generates, and end it with the request."""

    def begin() -> None:
        if request.blueprint in BLUEPRINTS:
            ticket = shedder.begin()
            g.end_admission = lambda: shedder.end(ticket)
            g.pause_admission = lambda: shedder.paused(ticket)

    app.before_request(begin)
    app.teardown_request(lambda error: end_admission())


def end_admission() -> None:
    """End the admission of the current request: from now on it only waits."""
    if "end_admission" in g:
        g.end_admission()


def pause_admission() -> AbstractContextManager[None]:
    """Return a context manager for a wait for the client of the current request."""
    return g.pause_admission() if "pause_admission" in g else nullcontext()
