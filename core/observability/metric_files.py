"""Where a program's counters live: files that outlive each of its processes.

prometheus_client writes each counter through to a file of its process, and whoever is asked adds
all files up. It names them by process ids; here each process takes a numbered place, whose files it
goes on with when the one before it is dead. So nothing is lost with a process, nothing is counted
twice, and there are only as many files as processes were there at once.

In the directory of a program:
    place-{n}                    locked by the process that has the place; its process id
    {type}_{n}.db                the counters and histograms of that place
    gauge_{mode}_{n}.db          its gauges; those of a dead process are removed
    layout                       says by which version of the instruments the files were written
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

_log = logging.getLogger(__name__)

#: Where prometheus_client looks for the directory.
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
#: More processes of one program than this are a fault.
MAX_PLACES = 256


class MetricFiles:
    """The files of one program, in a directory that no other program uses."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    @contextmanager
    def opened(cls, kept_in: str, program: str, *, layout: str) -> Iterator[MetricFiles]:
        """Prepare the files of a program, before it has processes.

        Args:
            kept_in: a directory that survives the program; if empty, it has one of its own that is
                removed with the block.
            layout: names the instruments; files of others are removed.
        """
        owner = os.getpid()
        path = Path(kept_in, program) if kept_in else Path(tempfile.mkdtemp(prefix="bountycoder-"))
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
            # gunicorn's processes leave through here too: they are forks.
            if not kept_in and os.getpid() == owner:
                shutil.rmtree(path, ignore_errors=True)

    def claim_slot(self) -> int:
        """Let every instrument that this process makes from now on live in files of its own."""
        place = next((n for n in range(MAX_PLACES) if self._take(n)), None)
        if place is None:
            raise RuntimeError(f"{MAX_PLACES} processes write metrics to {self.path}")
        mark_process_dead(place, str(self.path))
        self._remove_broken(place)
        values.ValueClass = MappedValues(self.path, place)
        return place

    def live_processes(self) -> dict[int, int]:
        """Return the process id in each place whose process lives; gauges of others are removed."""
        found = {}
        for file in self.path.glob("place-*"):
            place = int(file.name.removeprefix("place-"))
            lock = self._try_lock(place)
            if lock is None:
                said = file.read_text()
                if said.isdigit():
                    found[place] = int(said)
                continue
            try:
                mark_process_dead(place, str(self.path))
            finally:
                os.close(lock)
        return dict(sorted(found.items()))

    def _take(self, place: int) -> bool:
        lock = self._try_lock(place)
        if lock is None:
            return False
        os.ftruncate(lock, 0)
        with _without_room(self.path):
            os.pwrite(lock, str(os.getpid()).encode(), 0)
        # The descriptor stays open: the kernel frees the place when the process ends, however.
        return True

    def _try_lock(self, place: int) -> int | None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.path / f"place-{place}", flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def _remove_broken(self, place: int) -> None:
        """Remove files that cannot be read: a machine that lost power wrote half of them."""
        for file in self.path.glob(f"*_{place}.db"):
            try:
                for key, *_ in MmapedDict.read_all_values_from_file(str(file)):
                    json.loads(key)
            except Exception:  # whatever is wrong in it
                _log.warning("metrics of an earlier run cannot be read: %s", file.name)
                file.unlink()


@contextmanager
def _without_room(path: Path) -> Iterator[None]:
    """Go on when a note cannot be written: a full disk of metrics ends no program."""
    try:
        yield
    except OSError as error:
        _log.warning("no room for metrics in %s: %s", path, error.strerror)
