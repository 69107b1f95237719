"""Keeps the values of instruments in mapped files that outlive the process (`metric_files.py`).

Writing to a page of a mapped file without a block on the disk kills the process with SIGBUS. So the
blocks of a file are allocated before it is mapped. While the disk is full, a new value stays in
memory; it moves to its file as soon as there is room.
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

#: The size of a new file, as in the library.
FIRST_BYTES = 1 << 16
#: The most bytes of an entry besides its key: length, padding, value and timestamp.
ENTRY_BYTES = 28
#: The wait between two attempts to allocate on a full disk.
RETRY_SECONDS = 5.0


class MappedValue:
    """A value of an instrument, for a fraction of the cost of prometheus_client's own.

    The library searches its position in the file by a long key with every change. This class adds
    in place. It touches little memory, which matters most: between two requests other data fills
    the processor's caches.
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
        """Move the value into a file; the caller holds the lock."""
        doubles[index] += self._doubles[self._index]
        self._doubles, self._index = doubles, index


@dataclass(frozen=True, slots=True)
class _Unallocated:
    """A value that is only in memory, and its future position."""

    value: MappedValue
    prefix: str
    key: str


class MappedValues:
    """Makes the values of one process; replaces the value class of prometheus_client.

    Args:
        directory: the directory of the program's files.
        slot: the number of the process in the names of its files.
    """

    _multiprocess = True  # the library reads this

    def __init__(self, directory: Path, slot: int) -> None:
        self._directory = directory
        self._slot = slot
        self._files: dict[str, _File] = {}
        self._unallocated: list[_Unallocated] = []
        # A lock of the system, also among greenlets: no greenlet yields while it changes a value.
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
            self._unallocated.append(_Unallocated(value, prefix, key))
            is_first = len(self._unallocated) == 1
        if is_first:
            _log.warning("no room for metrics in %s: %s", self._directory, reason)
            threading.Thread(target=self._retry_allocation, name="metrics", daemon=True).start()
        return value

    def _find(self, prefix: str, key: str) -> tuple[memoryview[float], int]:
        if prefix not in self._files:
            self._files[prefix] = _File(self._directory / f"{prefix}_{self._slot}.db")
        return self._files[prefix].find(key)

    def _retry_allocation(self) -> None:
        """Move values to their files when there is room; return when all have moved."""
        is_full = True
        while is_full:
            time.sleep(RETRY_SECONDS)
            with self._lock:
                is_full = not self._allocate_all()
        _log.warning("there is room for metrics again in %s", self._directory)

    def _allocate_all(self) -> bool:
        while self._unallocated:
            one = self._unallocated[-1]
            try:
                doubles, index = self._find(one.prefix, one.key)
            except OSError:
                return False
            one.value.move(doubles, index)
            self._unallocated.pop()
        return True


class _File:
    """A file of values in the library's layout: each value is a double at a multiple of 8.

    Raises:
        OSError: the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._numbers: Any = _Allocated(path)
        self._map: mmap.mmap | None = None

    def find(self, key: str) -> tuple[memoryview[float], int]:
        """Return all doubles of the file, and the index of the value of `key`.

        Raises:
            OSError: the disk is full.
        """
        self._numbers.read_value(key)  # adds it to the file
        if self._map is not self._numbers._m:
            # The file has grown and was mapped again; values in the older map share its memory.
            self._map = self._numbers._m
            self._doubles = memoryview(self._map).cast("d")
        return self._doubles, self._numbers._positions[key] // 8


class _Allocated(MmapedDict):
    """The library's file, which allocates blocks on disk before it maps them."""

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
    """Make a file with all its blocks on the disk, or allocate the missing blocks of an old one.

    A new file is renamed when it is complete, because a scrape cannot read an empty file.
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
