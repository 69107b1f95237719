"""The data directory of `bountycoder up`: its lock, its files, and the room that it needs."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.system.file_locks import try_lock
from cli.system.private_files import load_or_create_secret
from core.errors import LauncherError

FULL_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT)
MEGABYTE = 10**6
START_BYTES = 200 * MEGABYTE
#: The weights of the small model are 540 MB, and are written beside before they are renamed.
MODEL_BYTES = 1300 * MEGABYTE


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """Where one instance keeps everything."""

    path: Path

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> Iterator[DataDirectory]:
        """Make the directory if needed and hold its lock.

        Raises:
            LauncherError: it cannot be used, or another instance uses it.
        """
        directory = cls(path.absolute())
        lock = directory._lock()
        try:
            yield directory
        finally:
            os.close(lock)

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def models(self) -> Path:
        return self.path / "models"

    @property
    def postgres(self) -> Path:
        return self.path / "postgres"

    @property
    def valkey(self) -> Path:
        return self.path / "valkey"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics"

    @property
    def key_file(self) -> Path:
        return self.path / "development-key"

    @property
    def run_file(self) -> Path:
        """Addresses, passwords and process ids of the running instance, for other programs."""
        return self.path / "run.json"

    @property
    def was_left_running(self) -> bool:
        """Say whether the instance before us ended without stopping in order."""
        return self.run_file.exists()

    def secret_key(self) -> str:
        """Return what signs this instance's sessions; made once."""
        return load_or_create_secret(self.path / "secret-key")

    def _lock(self) -> int:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = try_lock(self.path / "up.lock")
        except (FileExistsError, NotADirectoryError):
            raise LauncherError(f"data directory {self.path} is not a directory") from None
        except OSError as error:
            if error.errno in FULL_DISK_ERRORS:
                raise
            raise LauncherError(
                f"data directory {self.path} cannot be used: {error.strerror}"
            ) from None
        if lock is None:
            raise LauncherError(f"data directory {self.path} is in use by another bountycoder up")
        return lock


def check_room(needs: Mapping[Path, int]) -> None:
    """Check the free space of disks before anything is written.

    Args:
        needs: bytes by the directory that will hold them; those on one disk are added up.

    Raises:
        LauncherError: a disk has too little.
    """
    by_disk: dict[int, tuple[Path, int]] = {}
    for directory, size in needs.items():
        place = next(folder for folder in (directory, *directory.parents) if folder.exists())
        disk = place.stat().st_dev
        by_disk[disk] = (place, by_disk.get(disk, (place, 0))[1] + size)
    for place, size in by_disk.values():
        free = shutil.disk_usage(place).free
        if free < size:
            raise LauncherError(
                f"disk full: {place} has {free // MEGABYTE} MB free, "
                f"and {size // MEGABYTE} MB are needed"
            )
