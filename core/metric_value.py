"""The numbers of instruments, in files that outlive the process: see `core/metric_files.py`."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Sequence
from pathlib import Path

from gevent.monkey import get_original
from prometheus_client.mmap_dict import MmapedDict, mmap_key


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
        return float(self._doubles[self._index])

    def get_exemplar(self) -> None:
        return None


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
            if prefix not in self._files:
                self._files[prefix] = _File(self._directory / f"{prefix}_{self._place}.db")
            doubles, index = self._files[prefix].find(key)
        return MappedValue(doubles, index, self._lock)


class _File:
    """A file of numbers, as the library lays it out: each is a double at a multiple of 8."""

    def __init__(self, path: Path) -> None:
        self._numbers = MmapedDict(str(path))
        self._map: mmap.mmap | None = None

    def find(self, key: str) -> tuple[memoryview[float], int]:
        """Return all doubles of the file, and which one is the number of `key`."""
        self._numbers.read_value(key)  # makes room for it
        if self._map is not self._numbers._m:
            # The file has grown and is mapped anew; numbers in the older map are the same memory.
            self._map = self._numbers._m
            self._doubles = memoryview(self._map).cast("d")
        return self._doubles, self._numbers._positions[key] // 8
