"""Keeps the counters of a program in files that outlive each of its processes.

prometheus_client writes each counter to a file of its process, and a scrape sums all files. It
names the files by process ids. Here each process claims a numbered slot and continues its files
when the previous process is dead. So no count is lost with a process, nothing is counted twice, and
the number of files is the largest number of concurrent processes.

In the directory of a program:
    place-{n}                    the process id of slot n; locked by that process
    {type}_{n}.db                the counters and histograms of the slot
    gauge_{mode}_{n}.db          the gauges of the slot; those of a dead process are removed
    layout                       the version of the instruments that wrote the files
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import mark_process_dead

from core.observability.metric_values import MappedValues
from core.text.integers import bounded_integer

_log = logging.getLogger(__name__)

#: The variable in which prometheus_client expects the directory.
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
#: More processes of one program are a fault.
MAX_SLOTS = 256


class MetricFiles:
    """The files of one program, in a directory of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    @contextmanager
    def opened(cls, parent: str, program: str, *, layout: str) -> Iterator[MetricFiles]:
        """Prepare the files of a program before its processes start.

        Args:
            parent: a directory that survives the program; if empty, the files are temporary and
                removed after the block.
            layout: the version of the instruments; files of other versions are removed.
        """
        owner = os.getpid()
        path = Path(parent, program) if parent else Path(tempfile.mkdtemp(prefix="bountycoder-"))
        path.mkdir(parents=True, exist_ok=True)
        note = path / "layout"
        if not note.exists() or note.read_text() != layout:
            for old in path.glob("*.db"):
                old.unlink()
            with _without_room(path):
                note.write_text(layout)
        os.environ[VARIABLE] = str(path)
        try:
            yield cls(path)
        finally:
            # The forked processes of gunicorn run this too.
            if not parent and os.getpid() == owner:
                shutil.rmtree(path, ignore_errors=True)

    def claim_slot(self) -> int:
        """Claim a slot, whose files hold all instruments that this process makes afterwards."""
        slot = next((n for n in range(MAX_SLOTS) if self._claim(n)), None)
        if slot is None:
            raise RuntimeError(f"{MAX_SLOTS} processes write metrics to {self.path}")
        mark_process_dead(slot, str(self.path))
        self._remove_broken(slot)
        values.ValueClass = MappedValues(self.path, slot)
        return slot

    def live_processes(self) -> dict[int, int]:
        """Return the process id of each slot in use, and remove the gauges of the others."""
        found = {}
        for file in self.path.glob("place-*"):
            slot = int(file.name.removeprefix("place-"))
            lock = self._try_lock(slot)
            if lock is None:
                process_id = bounded_integer(file.read_text())
                if process_id is not None:
                    found[slot] = process_id
                continue
            try:
                mark_process_dead(slot, str(self.path))
            finally:
                os.close(lock)
        return dict(sorted(found.items()))

    def _claim(self, slot: int) -> bool:
        lock = self._try_lock(slot)
        if lock is None:
            return False
        os.ftruncate(lock, 0)
        with _without_room(self.path):
            os.pwrite(lock, str(os.getpid()).encode(), 0)
        # The descriptor stays open: the kernel releases the lock when the process ends.
        return True

    def _try_lock(self, slot: int) -> int | None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.path / f"place-{slot}", flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def _remove_broken(self, slot: int) -> None:
        """Remove unreadable files, which a machine that lost power leaves behind."""
        for file in self.path.glob(f"*_{slot}.db"):
            try:
                for key, *_ in MmapedDict.read_all_values_from_file(str(file)):
                    json.loads(key)
            except Exception:  # the file may be damaged in any way
                _log.warning("metrics of an earlier run cannot be read: %s", file.name)
                file.unlink()


@contextmanager
def _without_room(path: Path) -> Iterator[None]:
    """Ignore a failed write: a full disk of metrics must not end a program."""
    try:
        yield
    except OSError as error:
        _log.warning("no room for metrics in %s: %s", path, error.strerror)
