"""A directory of backups: each is a directory of its own, named by its time, whole or not there.

A backup grows under another name, beside a lock that its maker holds, and is renamed when all of it
is on disk. What a killed maker left is known by its free lock.
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
        """Make a directory for the backup of a moment; it is kept if the block ends well.

        Raises:
            BackupError: another process makes one, or there is one of this second.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = try_lock(self._directory / _LOCK)
        if lock is None:
            raise BackupError(f"another backup to {self._directory} is being made")
        whole = self.path_of(moment)
        try:
            for left in self._directory.glob(f"{_PARTIAL}*"):
                shutil.rmtree(left)
            if whole.exists():
                raise BackupError(f"{whole} is there already")
            partial = whole.with_name(f"{_PARTIAL}{whole.name}")
            partial.mkdir(mode=0o700)
            try:
                yield partial
                for path in partial.iterdir():
                    _to_disk(path)
                _to_disk(partial)
                partial.rename(whole)
                _to_disk(self._directory)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
        finally:
            os.close(lock)

    def backups(self) -> list[Path]:
        """Return those that are whole, oldest first."""
        found = [path.parent for path in self._directory.glob(f"*/{MANIFEST}")]
        return sorted(path for path in found if _is_ours(path.name))

    def path_of(self, moment: datetime) -> Path:
        """Return where the backup of a moment lies."""
        return self._directory / moment.astimezone(UTC).strftime(_NAME)

    def later_than(self, path: Path) -> list[Path]:
        """Return the backups whose names have a later time than that of one just made."""
        return [backup for backup in self.backups() if backup.name > path.name]

    def prune(self, count: int, *, made: Path) -> list[Path]:
        """Delete all but the newest, and never the one just made; return what was deleted."""
        others = [path for path in self.backups() if path != made]
        gone = others[: max(0, len(others) - (count - 1))]
        for path in gone:
            # Renamed first: one that is half deleted must not look like a backup.
            partial = path.with_name(f"{_PARTIAL}{path.name}")
            path.rename(partial)
            shutil.rmtree(partial)
        return gone


def find_backup(directory: Path) -> Path:
    """Return the directory itself if it is a backup, else the newest of those in it.

    Raises:
        BackupError: there is none.
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
