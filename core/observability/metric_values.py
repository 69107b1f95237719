"""The numbers of instruments, in files that outlive the process: see `metric_files.py` beside it.

A page of a mapped file that has no block on its disk kills the process that touches it: SIGBUS.
So files get their blocks before they are mapped. Without room on the disk a number stays in memory,
and moves to its file as soon as there is room.
"""

from __future__ import annotations

import logging
import mmap
import os
import threading
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gevent.monkey import get_original
from prometheus_client.mmap_dict import MmapedDict, mmap_key

_log = logging.getLogger(__name__)

#: The size of a new file, as the library makes it.
FIRST_BYTES = 1 << 16
#: What an entry takes beside its key, at most: its length, padding, the number and a time.
ENTRY_BYTES = 28
#: Between two looks for room on a full disk.
RETRY_SECONDS = 5.0


class MappedValue:
    """A number of an instrument, for a fraction of what prometheus_client's own takes.

    That one looks for its place in the file by a long text, with every change. This one adds to it
    where it is. Little memory is touched on the way, which counts most: between two requests the
    processor's caches are filled with other things.
    """

    __slots__ = ("_doubles", "_index", "_lock")

    def __init__(self, doubles: memoryview[float], index: int, lock: threading.Lock) -> None:
        self._doubles = doubles
        self._index = index
        self._lock = lock

    def inc(self, amount: float) -> None:
        with self._lock:
            self._doubles[self._index] += amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        with self._lock:
            self._doubles[self._index] = value

    def get(self) -> float:
        with self._lock:
            return float(self._doubles[self._index])

    def get_exemplar(self) -> None:
        return None

    def move(self, doubles: memoryview[float], index: int) -> None:
        """Go on with a number of a file; whoever calls this holds the lock."""
        doubles[index] += self._doubles[self._index]
        self._doubles, self._index = doubles, index


@dataclass(frozen=True, slots=True)
class _Homeless:
    """A number that is in memory alone, and where it belongs."""

    value: MappedValue
    prefix: str
    key: str


class MappedValues:
    """Makes the numbers of one process: stands where prometheus_client has a class of its own.

    Args:
        directory: of the program's files.
        place: the process's number, which its files are named by.
    """

    _multiprocess = True  # the library asks

    def __init__(self, directory: Path, place: int) -> None:
        self._directory = directory
        self._place = place
        self._files: dict[str, _File] = {}
        self._homeless: list[_Homeless] = []
        # The system's, also among greenlets: none of them stops while it adds to a number.
        self._lock: threading.Lock = get_original("_thread", "allocate_lock")()

    def __call__(
        self,
        kind: str,
        metric: str,
        name: str,
        label_names: Sequence[str],
        label_values: Sequence[str],
        text: str,
        multiprocess_mode: str = "",
    ) -> MappedValue:
        prefix = f"{kind}_{multiprocess_mode}" if kind == "gauge" else kind
        key = mmap_key(metric, name, list(label_names), list(label_values), text)
        with self._lock:
            try:
                doubles, index = self._find(prefix, key)
                return MappedValue(doubles, index, self._lock)
            except OSError as error:
                reason = error.strerror
            value = MappedValue(memoryview(array("d", [0.0])), 0, self._lock)
            self._homeless.append(_Homeless(value, prefix, key))
            is_first = len(self._homeless) == 1
        if is_first:
            _log.warning("no room for metrics in %s: %s", self._directory, reason)
            threading.Thread(target=self._find_homes, name="metrics", daemon=True).start()
        return value

    def _find(self, prefix: str, key: str) -> tuple[memoryview[float], int]:
        if prefix not in self._files:
            self._files[prefix] = _File(self._directory / f"{prefix}_{self._place}.db")
        return self._files[prefix].find(key)

    def _find_homes(self) -> None:
        """Move numbers to their files when there is room; end when all of them are there."""
        is_full = True
        while is_full:
            time.sleep(RETRY_SECONDS)
            with self._lock:
                is_full = not self._find_home()
        _log.warning("there is room for metrics again in %s", self._directory)

    def _find_home(self) -> bool:
        while self._homeless:
            one = self._homeless[-1]
            try:
                doubles, index = self._find(one.prefix, one.key)
            except OSError:
                return False
            one.value.move(doubles, index)
            self._homeless.pop()
        return True


class _File:
    """A file of numbers, as the library lays it out: each is a double at a multiple of 8.

    Raises:
        OSError: there is no room for it.
    """

    def __init__(self, path: Path) -> None:
        self._numbers: Any = _Allocated(path)
        self._map: mmap.mmap | None = None

    def find(self, key: str) -> tuple[memoryview[float], int]:
        """Return all doubles of the file, and which one is the number of `key`.

        Raises:
            OSError: there is no room for it.
        """
        self._numbers.read_value(key)  # makes room for it
        if self._map is not self._numbers._m:
            # The file has grown and is mapped anew; numbers in the older map are the same memory.
            self._map = self._numbers._m
            self._doubles = memoryview(self._map).cast("d")
        return self._doubles, self._numbers._positions[key] // 8


class _Allocated(MmapedDict):
    """The library's file, which grows on disk before it grows in memory."""

    def __init__(self, path: Path) -> None:
        _make(path)
        super().__init__(str(path))  # type: ignore[no-untyped-call]  # the library's

    def _init_value(self, key: str) -> None:
        needed = self._used + len(key.encode()) + ENTRY_BYTES
        size = self._capacity
        while size < needed:
            size *= 2
        if size > self._capacity:
            os.posix_fallocate(self._f.fileno(), 0, size)
        super()._init_value(key)  # type: ignore[no-untyped-call]  # the library's


def _make(path: Path) -> None:
    """Make a file whose blocks are all on the disk; one that is there gets those that it lacks.

    It comes to be under another name: who adds files up cannot read an empty one.
    """
    if path.exists():
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, max(FIRST_BYTES, path.stat().st_size))
        return
    beside = path.with_suffix(".new")
    try:
        with open(beside, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, FIRST_BYTES)
        beside.rename(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
