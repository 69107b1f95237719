"""Create a backup beside a running service: dump and count one snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from cli.backup.manifest import FORMAT, Manifest, describe, write_manifest
from cli.backup.postgres_tools import run_tool, tools_to_dump
from cli.backup.store import BackupStore
from core.config.settings import Settings
from core.errors import BackupError
from models.database.base import open_database, sessions, utc_now
from models.maintenance.backup import (
    LOCK_SECONDS,
    backup_connection,
    begin_snapshot,
    count_tables,
    is_replica,
    schema_revision,
    server_version,
)
from models.maintenance.last_backup import note_backup

DUMP = "database.dump"


@dataclass(frozen=True, slots=True)
class RunContext:
    """The environment and limits of one step.

    Attributes:
        environment: `PATH`, `PG_BIN` and libpq's variables.
        timeout_seconds: limit of each PostgreSQL tool.
        tick: called between polls; an exception of it ends the step.
    """

    environment: Mapping[str, str]
    timeout_seconds: float
    tick: Callable[[], None]


def make_backup(
    settings: Settings, store: BackupStore, context: RunContext
) -> tuple[Path, Manifest]:
    """Create a backup, and record it in the database unless that is a replica.

    Raises:
        BackupError: the backup failed; its files are removed.
    """
    url = settings.database_url.get_secret_value()
    moment = utc_now().replace(microsecond=0)
    with store.creating(moment) as directory:
        manifest = _dump(url, directory, moment, context)
    with backup_connection(url, purpose="backup") as connection:
        may_write = not is_replica(connection)
    if may_write:
        _note(settings, moment)
    return store.path_of(moment), manifest


def _dump(url: str, directory: Path, moment: datetime, context: RunContext) -> Manifest:
    with backup_connection(url, purpose="backup") as connection:
        snapshot = begin_snapshot(connection)
        server = server_version(connection)
        revision = schema_revision(connection)
        if revision is None:
            raise BackupError("this database has no schema of ours: run `bountycoder migrate`")
        tools = tools_to_dump(context.environment, server)
        run_tool(
            tools,
            "pg_dump",
            [
                "--format=custom",
                f"--file={directory / DUMP}",
                f"--snapshot={snapshot}",
                f"--lock-wait-timeout={LOCK_SECONDS}s",
            ],
            url=url,
            environment=context.environment,
            timeout_seconds=context.timeout_seconds,
            tick=context.tick,
        )
        tables = count_tables(connection)
    manifest = Manifest(
        format=FORMAT,
        taken_at=moment,
        version=version("bountycoder"),
        schema_revision=revision,
        server_version=server,
        tools_version=tools.major,
        tables=tables,
        files={DUMP: describe(directory / DUMP)},
    )
    write_manifest(directory, manifest)
    return manifest


def _note(settings: Settings, moment: datetime) -> None:
    engine = open_database(settings, pool_size=1)
    try:
        with sessions(engine).begin() as session:
            note_backup(session, moment)
    finally:
        engine.dispose()
