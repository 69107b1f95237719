"""The lock that the processes of a run of tests share."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.parallel import Machine
from tests.support.polling import wait_until


class Holder(threading.Thread):
    """Holds the machine from when it gets it until it is told to let go."""

    def __init__(self, machine: Machine, *, alone: bool) -> None:
        super().__init__(daemon=True)
        self.has_it, self.let_go = threading.Event(), threading.Event()
        self._machine, self._alone = machine, alone

    def run(self) -> None:
        with self._machine.held(alone=self._alone):
            self.has_it.set()
            self.let_go.wait(30)


@contextmanager
def holder(machine: Machine, *, alone: bool = False) -> Iterator[Holder]:
    thread = Holder(machine, alone=alone)
    thread.start()
    try:
        yield thread
    finally:
        thread.let_go.set()
        thread.join(30)


def test_tests_share_the_machine(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    with holder(machine) as one, holder(machine) as other:
        assert one.has_it.wait(5)
        assert other.has_it.wait(5)


def test_one_that_wants_to_be_alone_waits_and_is_not_overtaken(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    with holder(machine) as first:
        assert first.has_it.wait(5)
        with holder(machine, alone=True) as alone:
            wait_until(lambda: is_locked(tmp_path / "gate"), 20)
            with holder(machine) as late:
                assert not late.has_it.wait(0.2)
                assert not alone.has_it.is_set()
                first.let_go.set()
                assert alone.has_it.wait(5)
                assert not late.has_it.wait(0.2)
                alone.let_go.set()
                assert late.has_it.wait(5)


def is_locked(path: Path) -> bool:
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
