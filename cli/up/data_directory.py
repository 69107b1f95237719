"""The data directory of `bountycoder up`: its lock, its files, the disk space that it needs."""

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
#: The small model's weights take 540 MB, and are written to a second file before the rename.
MODEL_BYTES = 1300 * MEGABYTE


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """The directory of all data of one instance."""

    path: Path

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> Iterator[DataDirectory]:
        """Create the directory if needed and hold its lock.

        Raises:
            LauncherError: the directory cannot be used, or another instance uses it.
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
        """Return whether the previous instance ended without an orderly stop."""
        return self.run_file.exists()

    def secret_key(self) -> str:
        """Return the key that signs this instance's sessions; the first call creates it."""
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
    """Check that the disks have enough free space.

    Args:
        needs: bytes by directory. Directories on one disk add up.

    Raises:
        LauncherError: a disk has too little free space.
    """
    by_disk: dict[int, tuple[Path, int]] = {}
    for directory, size in needs.items():
        folder = next(folder for folder in (directory, *directory.parents) if folder.exists())
        disk = folder.stat().st_dev
        by_disk[disk] = (folder, by_disk.get(disk, (folder, 0))[1] + size)
    for folder, size in by_disk.values():
        free = shutil.disk_usage(folder).free
        if free < size:
            raise LauncherError(
                f"disk full: {folder} has {free // MEGABYTE} MB free, "
                f"and {size // MEGABYTE} MB are needed"
            )
