"""The tests in several processes at once: which go first, and which want the machine alone.

pytest-xdist gives each process whole modules, in the order of the collection.
"""

from __future__ import annotations

import fcntl
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

#: Longer than any test takes.
LOCK_SECONDS = 900.0
POLL_SECONDS = 0.01


class Machine:
    """What the processes of a run share: each test holds it, most with others, some alone.

    Whoever waits for it holds the gate, and waits for the gate with empty hands: a test that wants
    to be alone is not overtaken for ever, and there is no deadlock. What a process that died held
    is free again.
    """

    def __init__(self, directory: Path) -> None:
        self._gate, self._machine = directory / "gate", directory / "machine"

    @contextmanager
    def held(self, *, alone: bool) -> Iterator[None]:
        """Hold it for the block."""
        with open(self._machine, "w") as machine, open(self._gate, "w") as gate:
            try:
                _lock(gate, fcntl.LOCK_EX)
                _lock(machine, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
                fcntl.flock(gate, fcntl.LOCK_UN)
                yield
            finally:  # to close them is not enough: a forked process may have them open too
                fcntl.flock(gate, fcntl.LOCK_UN)
                fcntl.flock(machine, fcntl.LOCK_UN)


def _lock(file: IO[str], kind: int) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)


class OneOfSeveral:
    """What each of several processes does."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put modules of few tests first: the longest are scenarios with a module of their own,
        and one that came last would leave the other processes with nothing to do.
        """
        sizes = Counter(_module(item) for item in items)
        items.sort(key=lambda item: (sizes[_module(item)], _module(item)))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        with self._machine.held(alone=item.get_closest_marker("alone") is not None):
            return (yield)


class Starter:
    """What the process does that starts them."""

    def __init__(self) -> None:
        self._shared = tempfile.TemporaryDirectory(prefix="bountycoder-tests-")

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["machine"] = self._shared.name

    def pytest_unconfigure(self) -> None:
        self._shared.cleanup()


def pytest_configure(config: pytest.Config) -> None:
    given: dict[str, Any] | None = getattr(config, "workerinput", None)
    plugin = Starter() if given is None else OneOfSeveral(Machine(Path(given["machine"])))
    config.pluginmanager.register(plugin)


def _module(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]
