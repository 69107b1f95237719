"""Restore a backup in one transaction, then count the rows."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.backup.create import DUMP, RunContext
from cli.backup.manifest import Manifest, check_files, read_manifest
from cli.backup.postgres_tools import run_tool, tools_to_restore
from core.errors import BackupError
from migrations.run import head_revision, is_known
from models.maintenance.backup import (
    TableCount,
    analyze,
    backup_connection,
    count_tables,
    create_database,
    drop_database,
    server_version,
    service_connections,
    sibling_url,
    table_names,
    tables_with_rows,
)

#: An error message names at most so many tables.
MAX_NAMED_TABLES = 5


@dataclass(frozen=True, slots=True)
class Comparison:
    """A table's counts in the backup and after the restore; `None` if the table is missing."""

    table: str
    expected: TableCount | None
    found: TableCount | None

    @property
    def is_equal(self) -> bool:
        return self.expected == self.found


def verified_manifest(directory: Path) -> Manifest:
    """Return the manifest of a backup after checking its files.

    Raises:
        BackupError: the backup is damaged, or of a newer version of the service.
    """
    manifest = read_manifest(directory)
    check_files(directory, manifest)
    if not is_known(manifest.schema_revision):
        raise BackupError(
            f"{directory} has schema {manifest.schema_revision} of version {manifest.version}, "
            f"newer than ours ({head_revision()}): restore it with that version"
        )
    return manifest


def restore_into(
    url: str, directory: Path, manifest: Manifest, context: RunContext, *, is_replacing: bool
) -> list[Comparison]:
    """Restore a verified backup and compare each table with the manifest's counts.

    An error or an interruption leaves the database unchanged.

    Raises:
        BackupError: the restore failed; or the database is in use, of an older server version,
            not empty, or has unknown tables.
    """
    with backup_connection(url, purpose="restore") as connection:
        server = server_version(connection)
        names = set(table_names(connection))
        used = tables_with_rows(connection)
        users = service_connections(connection)
    if server < manifest.server_version:
        raise BackupError(
            f"the backup was taken from PostgreSQL {manifest.server_version} "
            f"and this is PostgreSQL {server}"
        )
    if users:
        raise BackupError(f"the service is running on this database ({users} connections): stop it")
    if used and not is_replacing:
        raise BackupError(
            f"the database has rows (in {_joined(used)}): --replace deletes all of them"
        )
    if unknown_tables := names - set(manifest.tables):
        raise BackupError(
            f"the database has tables that the backup lacks ({_joined(sorted(unknown_tables))}): "
            "restore into an empty one"
        )
    tools = tools_to_restore(context.environment, server, written_by=manifest.tools_version)
    run_tool(
        tools,
        "pg_restore",
        [
            "--single-transaction",
            "--exit-on-error",
            "--no-owner",
            "--no-privileges",
            "--clean",
            "--if-exists",
            str(directory / DUMP),
        ],
        url=url,
        environment=context.environment,
        timeout_seconds=context.timeout_seconds,
        tick=context.tick,
    )
    return _compare(url, manifest)


@contextmanager
def scratch_database(url: str) -> Iterator[str]:
    """Create an empty database on the server of `url`, and drop it at the end."""
    name = f"bountycoder_verify_{secrets.token_hex(4)}"
    with backup_connection(url, purpose="verify", is_autocommit=True) as connection:
        create_database(connection, name)
        try:
            yield sibling_url(url, name)
        finally:
            drop_database(connection, name)


def _compare(url: str, manifest: Manifest) -> list[Comparison]:
    with backup_connection(url, purpose="restore", is_autocommit=True) as connection:
        analyze(connection)
        found = count_tables(connection)
    return [
        Comparison(name, manifest.tables.get(name), found.get(name))
        for name in sorted(found.keys() | manifest.tables.keys())
    ]


def _joined(names: list[str]) -> str:
    more = ", …" if len(names) > MAX_NAMED_TABLES else ""
    return ", ".join(names[:MAX_NAMED_TABLES]) + more
