"""Wall clocks that step: the clock of one process, or of all that preload this library."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")
#: The number of offsets, as in the library.
SLOTS = 65536
_NUMBER = struct.Struct("<q")
NANOSECONDS = 1_000_000_000
COMPILE_SECONDS = 60


class WallClocks:
    """The steps of all wall clocks; `environment` is empty if there is no C compiler."""

    def __init__(self, directory: Path) -> None:
        self.environment: dict[str, str] = {}
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            return
        library, offsets = directory / "clock.so", directory / "clock"
        command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True, timeout=COMPILE_SECONDS)
        offsets.write_bytes(bytes(SLOTS * _NUMBER.size))
        with open(offsets, "r+b") as file:
            self._offsets = mmap.mmap(file.fileno(), 0)
        self.environment = {"LD_PRELOAD": str(library), "FAULTS_CLOCK": str(offsets)}

    @property
    def can_step(self) -> bool:
        return bool(self.environment)

    def step(self, pid: int | None, seconds: float) -> None:
        """Set the clock of a process, or of all processes, off the true time."""
        slot = 0 if pid is None else 1 + pid % (SLOTS - 1)
        _NUMBER.pack_into(self._offsets, slot * _NUMBER.size, round(seconds * NANOSECONDS))

    def reset(self) -> None:
        """Set all clocks right."""
        if self.can_step:
            self._offsets[:] = bytes(len(self._offsets))
