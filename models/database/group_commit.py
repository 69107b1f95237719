"""Commits many changes in one transaction: while one group commits, the next one forms.

As databases group the commits of their log ("group commit", Gawlick and Kinkade, 1985). A change
waits for no other; under load each transaction carries what gathered during the one before, so
that a row which all of them touch is locked once a group and not once a job.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Generic, Protocol, TypeVar

from models.database.base import DATABASE_AWAY, away_reason, is_permanent

_log = logging.getLogger(__name__)

Change = TypeVar("Change")
Result = TypeVar("Result")
T = TypeVar("T")
#: What a change is made with: a session, or what stands in its place.
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)

MAX_GROUP = 256
#: Times that a change alone is tried when the database finds it too slow or too large.
MOST_REFUSALS = 3
#: How often one who waits looks whether the thread still lives.
POLL_SECONDS = 0.5
JOIN_SECONDS = 5.0
FIRST_RETRY_SECONDS = 0.1
LONGEST_RETRY_SECONDS = 2.0


class Transactions(Protocol[S_co]):
    """Begins transactions, as `SessionFactory` does; one is committed when its block ends."""

    def begin(self) -> AbstractContextManager[S_co]: ...


def persist(
    sessions: Transactions[S],
    change: Callable[[S], T],
    must_leave: threading.Event,
    *,
    most_refusals: int = MOST_REFUSALS,
) -> T | None:
    """Make a change in its own transaction, and retry while the database is away.

    Returns `None` when the process must leave first.

    Raises one of `DATABASE_AWAY` when the database, being there, refused it `most_refusals` times.
    """
    delay, refusals = FIRST_RETRY_SECONDS, 0
    while True:
        try:
            with sessions.begin() as session:
                return change(session)
        except DATABASE_AWAY as error:
            if is_permanent(error) and (refusals := refusals + 1) >= most_refusals:
                raise
            _log.warning("the database is away or too slow: %s", away_reason(error))
        if must_leave.wait(delay * random.uniform(0.5, 1)):  # noqa: S311 - no secret
            return None
        delay = min(delay * 2, LONGEST_RETRY_SECONDS)


class GroupCommit(Generic[S, Change, Result]):
    """One thread that makes changes for all.

    Args:
        write: makes a group of changes; returns one result for each, `None` where there was
            nothing to change.
        committed: receives the results of a group after its commit, before the waiting callers.
    """

    def __init__(
        self,
        name: str,
        sessions: Transactions[S],
        write: Callable[[S, Sequence[Change]], Sequence[Result | None]],
        *,
        committed: Callable[[Sequence[Result | None]], None] = lambda results: None,
        must_leave: threading.Event,
    ) -> None:
        self._sessions = sessions
        self._write = write
        self._committed = committed
        self._must_leave = must_leave
        self._waiting: SimpleQueue[_Waiting[Change, Result] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Make what waits, and stop; nothing may be added from then on."""
        self._waiting.put(None)
        self._thread.join(timeout=JOIN_SECONDS)

    def submit(self, change: Change) -> Future[Result | None]:
        """Let a change be made, without waiting for it."""
        future: Future[Result | None] = Future()
        self.submit_then(change, partial(_fulfil, future))
        return future

    def submit_then(
        self, change: Change, then: Callable[[Result | None, Exception | None], None]
    ) -> None:
        """Let a change be made, and call `then` with its result, or with why it was refused.

        It is called on the thread that makes all changes: it must return quickly.
        """
        self._waiting.put(_Waiting(change, then))

    def make(self, change: Change, *, seconds: float = float("inf")) -> Result | None:
        """Return the result of a change when it is committed.

        A database that is away is waited for. Returns `None` if there was nothing to change, or
        if the process must leave before the database is back.

        Raises:
            TimeoutError: it was not made in this time; it will be.
        """
        future = self.submit(change)
        deadline = time.monotonic() + seconds
        while True:
            try:
                return future.result(timeout=POLL_SECONDS)
            except TimeoutError:
                is_alive = self._thread.is_alive()
                if future.done():
                    # Also if that came a moment too late to be waited for.
                    return future.result()
                if not is_alive:
                    return None
                if time.monotonic() > deadline:
                    raise

    def _run(self) -> None:
        is_stopping = False
        while not is_stopping:
            group: list[_Waiting[Change, Result]] = []
            waiting = self._waiting.get()
            while waiting is not None:
                group.append(waiting)
                if len(group) == MAX_GROUP:
                    break
                try:
                    waiting = self._waiting.get_nowait()
                except Empty:
                    break
            is_stopping = waiting is None
            if group:
                self._make_group(group)

    def _make_group(self, group: list[_Waiting[Change, Result]]) -> None:
        changes = [waiting.change for waiting in group]
        try:
            results = persist(
                self._sessions,
                lambda session: self._write(session, changes),
                self._must_leave,
                most_refusals=1 if len(group) > 1 else MOST_REFUSALS,
            )
        except Exception as error:
            # Broad on purpose: one change's error must not fail the others of its group.
            if len(group) == 1:
                group[0].notify(None, error)
                return
            # One change is invalid, or they are too many: halve the group until it fails alone.
            _log.warning("a group of %d changes: %s", len(group), type(error).__name__)
            middle = len(group) // 2
            self._make_group(group[:middle])
            self._make_group(group[middle:])
            return
        if results is None:
            results = [None] * len(group)
        try:
            self._committed(results)
        except Exception:
            # Broad on purpose: the changes are committed, and their callers must be notified.
            _log.exception("the results of a commit could not be published")
        for waiting, result in zip(group, results, strict=True):
            waiting.notify(result, None)


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Change, Result]):
    """A change to make, and the callback for its result."""

    change: Change
    then: Callable[[Result | None, Exception | None], None]

    def notify(self, result: Result | None, error: Exception | None) -> None:
        try:
            self.then(result, error)
        except Exception:
            # Broad on purpose: one fault must not end the writing for all.
            _log.exception("the callback of a change failed")


def _fulfil(future: Future[T], result: T, error: Exception | None) -> None:
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
