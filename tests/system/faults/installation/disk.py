"""A disk so small that a test can fill it."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

#: Room for PostgreSQL's log and a few runs.
DISK_BYTES = 768 * 1024**2
COMMAND_SECONDS = 30.0


class SmallDisk:
    """A directory that is its own file system, where this process may mount one.

    Attributes:
        can_be_filled: whether it is one.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self.path = path
        self.can_be_filled = os.geteuid() == 0 and _mount(path)
        self._ballast = path / "ballast"

    @property
    def is_full(self) -> bool:
        return self._ballast.exists()

    def fill(self) -> None:
        """Write until no byte is left."""
        block = bytes(1024**2)
        with open(self._ballast, "wb", buffering=0) as file, suppress(OSError):
            while file.write(block) == len(block):
                pass

    def free(self) -> None:
        """Delete what `fill` wrote."""
        self._ballast.unlink(missing_ok=True)

    def unmount(self) -> None:
        if self.can_be_filled:
            subprocess.run(["umount", "-l", str(self.path)], check=False, timeout=COMMAND_SECONDS)


def _mount(path: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(path)]
    done = subprocess.run(command, check=False, capture_output=True, timeout=COMMAND_SECONDS)
    return done.returncode == 0
