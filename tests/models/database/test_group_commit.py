"""Changes of many threads in few transactions: each is made once and has its own result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from models.database.base import Session, SessionFactory
from models.database.group_commit import GroupCommit
from tests.support.polling import wait_until


@contextmanager
def group_commit(
    sessions: Any, write: Callable[[Session, Sequence[int]], Sequence[int | None]], **options: Any
) -> Iterator[GroupCommit[Session, int, int]]:
    options.setdefault("must_leave", threading.Event())
    group: GroupCommit[Session, int, int] = GroupCommit("test", sessions, write, **options)
    group.start()
    try:
        yield group
    finally:
        group.stop()


def test_changes_form_groups_during_a_commit(database: SessionFactory) -> None:
    groups: list[list[int]] = []

    def write(session: Session, changes: Sequence[int]) -> list[int | None]:
        groups.append(list(changes))
        session.execute(text("select pg_sleep(0.05)"))
        return [change * 2 for change in changes]

    with group_commit(database, write) as group, ThreadPoolExecutor(40) as pool:
        results = list(pool.map(group.make, range(40)))

    assert results == [number * 2 for number in range(40)]
    assert sorted(change for changes in groups for change in changes) == list(range(40))
    assert len(groups) < 10


@pytest.mark.alone
def test_a_lone_change_does_not_wait(database: SessionFactory) -> None:
    with group_commit(database, lambda session, changes: list(changes)) as group:
        group.make(0)
        began = time.monotonic()
        assert group.make(1) == 1
        assert time.monotonic() - began < 0.2


def test_a_faulty_change_of_a_group_fails_alone(database: SessionFactory) -> None:
    gate = threading.Event()
    taken: list[int] = []

    def write(session: Session, changes: Sequence[int]) -> list[int | None]:
        taken.extend(changes)
        gate.wait(30)
        if 7 in changes:
            raise ValueError("seven")
        return list(changes)

    def make(number: int) -> int | str | None:
        try:
            return group.make(number)
        except ValueError as error:
            return str(error)

    with group_commit(database, write) as group, ThreadPoolExecutor(12) as pool:
        results = pool.map(make, range(12))
        wait_until(lambda: len(taken) + group._waiting.qsize() == 12)
        gate.set()
        assert list(results) == [*range(7), "seven", *range(8, 12)]


def test_a_change_waits_for_a_database_that_is_away(database: SessionFactory) -> None:
    failures = [2]

    class Away:
        def begin(self) -> Any:
            if failures[0]:
                failures[0] -= 1
                raise OperationalError("begin", {}, Exception("refused"))
            return database.begin()

    with group_commit(Away(), lambda session, changes: list(changes)) as group:
        assert group.make(3) == 3
    assert failures == [0]


def test_no_change_waits_for_a_database_when_the_process_leaves() -> None:
    class Away:
        def begin(self) -> Any:
            raise OperationalError("begin", {}, Exception("refused"))

    leave = threading.Event()
    with group_commit(Away(), lambda session, changes: list(changes), must_leave=leave) as group:
        threading.Timer(0.3, leave.set).start()
        assert group.make(3) is None


def test_callers_return_after_the_results_are_published(database: SessionFactory) -> None:
    published: list[int | None] = []

    def committed(results: Sequence[int | None]) -> None:
        time.sleep(0.1)  # a caller that does not wait would return now
        published.extend(results)

    with group_commit(
        database, lambda session, changes: list(changes), committed=committed
    ) as group:
        group.make(5)
        assert published == [5]


def test_a_stopped_group_commit_returns_at_once(database: SessionFactory) -> None:
    with group_commit(database, lambda session, changes: list(changes)) as group:
        pass
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(group.make, 1).result(timeout=5) is None


def test_a_refused_change_fails_after_a_few_attempts(database: SessionFactory) -> None:
    """A statement that times out is not an outage: it fails, and the other changes continue."""

    def write(session: Session, changes: Sequence[int]) -> list[int | None]:
        session.execute(text("set local statement_timeout = 50"))
        if 3 in changes:
            session.execute(text("select pg_sleep(1)"))
        return list(changes)

    def make(number: int) -> int | str | None:
        try:
            return group.make(number)
        except OperationalError:
            return "refused"

    with group_commit(database, write) as group, ThreadPoolExecutor(6) as pool:
        assert list(pool.map(make, range(6))) == [0, 1, 2, "refused", 4, 5]


def test_a_caller_waits_no_longer_than_its_timeout() -> None:
    class Away:
        def begin(self) -> Any:
            raise OperationalError("begin", {}, Exception("refused"))

    leave = threading.Event()
    with group_commit(Away(), lambda session, changes: list(changes), must_leave=leave) as group:
        with pytest.raises(TimeoutError):
            group.make(1, seconds=0.6)
        leave.set()


def test_a_change_made_at_the_last_moment_returns_its_result(
    database: SessionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LateFuture(Future[int]):
        """A future whose first wait ends just before its result is set."""

        has_waited = False

        def result(self, timeout: float | None = None) -> int:
            found = super().result(10)
            if not self.has_waited:
                self.has_waited = True
                raise TimeoutError
            return found

    monkeypatch.setattr("models.database.group_commit.Future", LateFuture)

    with group_commit(database, lambda session, changes: list(changes)) as group:
        assert group.make(3, seconds=0) == 3
