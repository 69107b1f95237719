"""A directory of backups: one directory for each backup, named by its time, always complete.

A new backup is written under a temporary name while its process holds a lock, and renamed when all
of it is on disk. If the lock is free, directories with temporary names are leftovers.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from cli.backup.manifest import MANIFEST
from cli.system.file_locks import try_lock
from core.errors import BackupError

_PARTIAL = ".partial-"
_LOCK = ".lock"
_NAME = "%Y%m%dT%H%M%SZ"


class BackupStore:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def creating(self, moment: datetime) -> Iterator[Path]:
        """Create a directory for a backup; keep it if the block succeeds.

        Raises:
            BackupError: another process creates a backup, or one of this second exists.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = try_lock(self._directory / _LOCK)
        if lock is None:
            raise BackupError(f"another backup to {self._directory} is running")
        whole = self.path_of(moment)
        try:
            for left in self._directory.glob(f"{_PARTIAL}*"):
                shutil.rmtree(left)
            if whole.exists():
                raise BackupError(f"{whole} exists already")
            partial = whole.with_name(f"{_PARTIAL}{whole.name}")
            partial.mkdir(mode=0o700)
            try:
                yield partial
                for path in partial.iterdir():
                    _to_disk(path)
                _to_disk(partial)
                partial.rename(whole)
                _to_disk(self._directory)
            except BaseException:  # also a stop signal: no partial backup may stay
                shutil.rmtree(partial, ignore_errors=True)
                raise
        finally:
            os.close(lock)

    def backups(self) -> list[Path]:
        """Return the complete backups, oldest first."""
        found = [path.parent for path in self._directory.glob(f"*/{MANIFEST}")]
        return sorted(path for path in found if _is_ours(path.name))

    def path_of(self, moment: datetime) -> Path:
        """Return the path of the backup of this time."""
        return self._directory / moment.astimezone(UTC).strftime(_NAME)

    def later_than(self, path: Path) -> list[Path]:
        """Return the backups whose names have a later time than the new one's."""
        return [backup for backup in self.backups() if backup.name > path.name]

    def prune(self, count: int, *, made: Path) -> list[Path]:
        """Delete all but the newest `count` backups, never the new one; return the deleted paths.

        Args:
            made: the new backup. It counts as one of the newest, even if a clock was wrong.
        """
        others = [path for path in self.backups() if path != made]
        gone = others[: max(0, len(others) - (count - 1))]
        for path in gone:
            # Rename first: a half deleted directory must not look like a backup.
            partial = path.with_name(f"{_PARTIAL}{path.name}")
            path.rename(partial)
            shutil.rmtree(partial)
        return gone


def find_backup(directory: Path) -> Path:
    """Return the directory itself if it is a backup, else the newest backup in it.

    Raises:
        BackupError: the directory contains no backup.
    """
    if (directory / MANIFEST).exists():
        return directory
    backups = BackupStore(directory).backups()
    if not backups:
        raise BackupError(f"there is no backup in {directory}")
    return backups[-1]


def _is_ours(name: str) -> bool:
    with suppress(ValueError):
        datetime.strptime(name, _NAME)
        return True
    return False


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
