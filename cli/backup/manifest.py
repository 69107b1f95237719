"""The `manifest.json` of a backup: written last, trusted only if all files match it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cli.system.private_files import write_private
from core.errors import BackupError
from models.maintenance.backup import TableCount

MANIFEST = "manifest.json"
#: Increased when earlier versions would misread the file.
FORMAT = 1
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class BackupFile:
    """Size in bytes and SHA-256 of a file of the backup."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of a backup.

    Attributes:
        format: format of this file.
        taken_at: time of the snapshot.
        version: version of the service that created the backup.
        schema_revision: Alembic revision of the tables.
        server_version: major version of the PostgreSQL server.
        tools_version: major version of `pg_dump`.
        tables: counts of the same snapshot, by table.
        files: files by name.
    """

    format: int
    taken_at: datetime
    version: str
    schema_revision: str
    server_version: int
    tools_version: int
    tables: dict[str, TableCount]
    files: dict[str, BackupFile]


_READER = TypeAdapter(Manifest)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    text = json.dumps(asdict(manifest), indent=2, default=_serialize)
    write_private(directory / MANIFEST, text + "\n")


def read_manifest(directory: Path) -> Manifest:
    """Return the manifest of a backup.

    Raises:
        BackupError: the manifest is missing, damaged, or of a newer version.
    """
    path = directory / MANIFEST
    try:
        raw = json.loads(path.read_bytes())
        if isinstance(raw, dict) and raw.get("format", FORMAT) != FORMAT:
            raise BackupError(f"{path} has format {raw['format']}: a newer version made it")
        return _READER.validate_python(raw, strict=False)
    except OSError as error:
        raise BackupError(f"{directory} is no backup: {MANIFEST}: {error.strerror}") from error
    except (ValueError, ValidationError) as error:
        raise BackupError(f"{path} is damaged") from error


def describe(path: Path) -> BackupFile:
    """Return size and SHA-256 of a file on disk."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return BackupFile(size, digest.hexdigest())


def check_files(directory: Path, manifest: Manifest) -> None:
    """Compare each file with the manifest.

    Raises:
        BackupError: a file is missing or differs.
    """
    for name, expected in manifest.files.items():
        if "/" in name:
            raise BackupError(f"{directory / MANIFEST} is damaged")
        try:
            found = describe(directory / name)
        except OSError as error:
            raise BackupError(f"{directory / name}: {error.strerror}") from error
        if found.bytes != expected.bytes:
            raise BackupError(
                f"{directory / name} is damaged: {found.bytes} bytes of {expected.bytes}"
            )
        if found != expected:
            raise BackupError(f"{directory / name} is damaged: its SHA-256 differs")


def _serialize(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)
