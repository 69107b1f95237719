"""Group commit: one transaction makes many changes while the next group forms.

Databases write their logs in this way ("group commit", Gawlick and Kinkade, 1985). A change does
not wait until a group is full. Under load, each transaction makes the changes that arrived during
the one before. A row that all of them change is then locked once per group, not once per job.
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
#: The argument that makes a change: a session, or its substitute.
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)

MAX_GROUP = 256
#: Attempts to make a change in its own transaction while the database rejects it.
MOST_REFUSALS = 3
#: The interval at which a waiting caller checks that the thread is alive.
POLL_SECONDS = 0.5
JOIN_SECONDS = 5.0
FIRST_RETRY_SECONDS = 0.1
LONGEST_RETRY_SECONDS = 2.0


class Transactions(Protocol[S_co]):
    """Begins transactions, as `SessionFactory` does.

    The end of the block commits the transaction.
    """

    def begin(self) -> AbstractContextManager[S_co]: ...


def persist(
    sessions: Transactions[S],
    change: Callable[[S], T],
    must_leave: threading.Event,
    *,
    most_refusals: int = MOST_REFUSALS,
) -> T | None:
    """Make a change in its own transaction, and retry while the database is away.

    Returns `None` if the process must leave first.

    Raises one of `DATABASE_AWAY` if the database is up and rejects the change `most_refusals`
    times.
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
    """One thread that makes the changes of all callers.

    Args:
        write: makes a group of changes. Returns one result for each change; `None` if there was
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
        """Make the waiting changes and stop; submit no change afterwards."""
        self._waiting.put(None)
        self._thread.join(timeout=JOIN_SECONDS)

    def submit(self, change: Change) -> Future[Result | None]:
        """Submit a change without waiting for it."""
        future: Future[Result | None] = Future()
        self.submit_then(change, partial(_fulfil, future))
        return future

    def submit_then(
        self, change: Change, then: Callable[[Result | None, Exception | None], None]
    ) -> None:
        """Submit a change, and call `then` with its result or its error.

        The thread that makes all changes calls `then`, so `then` must return quickly.
        """
        self._waiting.put(_Waiting(change, then))

    def make(self, change: Change, *, seconds: float = float("inf")) -> Result | None:
        """Return the result of a change after its commit.

        Waits while the database is away. Returns `None` if there was nothing to change, or if the
        process must leave before the database is back.

        Raises:
            TimeoutError: the change was not made within `seconds`; it will be made later.
        """
        future = self.submit(change)
        deadline = time.monotonic() + seconds
        while True:
            try:
                return future.result(timeout=POLL_SECONDS)
            except TimeoutError:
                is_alive = self._thread.is_alive()
                if future.done():
                    # The result may arrive just after the time-out.
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
            # One change is invalid, or the group is too large: halve it until one fails alone.
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
            # Broad on purpose: an error of one callback must not end the thread of all callers.
            _log.exception("the callback of a change failed")


def _fulfil(future: Future[T], result: T, error: Exception | None) -> None:
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
