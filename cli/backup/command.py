"""`bountycoder backup`, `backup verify` and `restore`: write the database to files and back."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from cli.argument_types import whole_number
from cli.backup.create import RunContext, make_backup
from cli.backup.restore import Comparison, restore_into, scratch_database, verified_manifest
from cli.backup.store import BackupStore, find_backup
from cli.commands.database import translating_database_errors
from cli.commands.usage import check_usage
from cli.system.signals import Interruption, StopRequested
from core.config.settings import Settings
from core.errors import BackupError
from migrations.run import head_revision, upgrade
from models.database.pooler_check import refuse_transaction_pooler
from models.maintenance.backup import TableCount, target_url

#: Default limit of `pg_dump` or `pg_restore`.
TIMEOUT_SECONDS = 6 * 3600.0
INTERRUPTED = 130
MOST_BACKUPS = 100_000


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    if name == "backup":
        _add_backup(parser)
    else:
        _add_restore(parser)


def _add_backup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", type=Path, metavar="DIR", help="directory of backups")
    parser.add_argument(
        "--keep",
        type=whole_number(most=MOST_BACKUPS),
        metavar="N",
        help="afterwards, delete all but the newest N backups",
    )
    _add_timeout(parser)
    parser.set_defaults(run=_backup, parser=parser)
    actions = parser.add_subparsers(metavar="verify DIR")
    verify = actions.add_parser(
        "verify", help="restore a backup into a scratch database on the same server and compare"
    )
    verify.add_argument("source", type=Path, metavar="DIR", help=_SOURCE)
    # Suppressed: this default must not override a --timeout before `verify`.
    _add_timeout(verify, default=argparse.SUPPRESS)
    verify.set_defaults(run=_verify)


def _add_restore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from", dest="source", type=Path, required=True, metavar="DIR", help=_SOURCE
    )
    parser.add_argument(
        "--into",
        metavar="URL",
        help="instead of DATABASE_URL; without a password, that of DATABASE_URL applies",
    )
    parser.add_argument(
        "--replace", action="store_true", help="delete the present rows of the database"
    )
    _add_timeout(parser)
    parser.set_defaults(run=_restore)


_SOURCE = "a backup, or a directory of backups, of which the newest is used"


def _add_timeout(parser: argparse.ArgumentParser, *, default: Any = TIMEOUT_SECONDS) -> None:
    parser.add_argument("--timeout", type=float, default=default, metavar="SECONDS")


def _backup(args: argparse.Namespace) -> int:
    if args.to is None:
        args.parser.error("--to is required")
    store = BackupStore(args.to)

    def run_with(settings: Settings, context: RunContext) -> int:
        path, manifest = make_backup(settings, store, context)
        for later in store.later_than(path):
            print(f"{later} has a later time than this backup: check the clock", file=sys.stderr)
        rows = sum(count.rows for count in manifest.tables.values())
        size = sum(file.bytes for file in manifest.files.values())
        print(f"{path}: {len(manifest.tables)} tables, {rows:,} rows, {size:,} bytes")
        for gone in store.prune(args.keep, made=path) if args.keep else ():
            print(f"deleted {gone}")
        return 0

    return _run(args, run_with, stopped="nothing is left of this backup")


def _verify(args: argparse.Namespace) -> int:
    if args.to is not None or args.keep is not None:
        args.parser.error("--to and --keep do not apply to `verify`")

    def run_with(settings: Settings, context: RunContext) -> int:
        with scratch_database(settings.database_url.get_secret_value()) as url:
            return _restore_into(_with_url(settings, url), args.source, context, is_replacing=False)

    return _run(args, run_with, stopped="the scratch database is dropped")


def _restore(args: argparse.Namespace) -> int:
    def run_with(settings: Settings, context: RunContext) -> int:
        url = settings.database_url.get_secret_value()
        if args.into is not None:
            try:
                url = target_url(url, args.into)
            except ValueError as error:
                raise BackupError(f"--into: {error}") from error
        return _restore_into(
            _with_url(settings, url), args.source, context, is_replacing=args.replace
        )

    return _run(args, run_with, stopped="the database is as it was")


def _run(
    args: argparse.Namespace, run_with: Callable[[Settings, RunContext], int], *, stopped: str
) -> int:
    """Run the action; a stop signal ends it in order, and a failure prints one line.

    Args:
        stopped: printed after a stop signal.
    """
    settings = Settings.from_environment(os.environ)
    refuse_transaction_pooler(settings)
    with Interruption() as interruption:
        context = RunContext(os.environ, args.timeout, interruption.check)
        try:
            with translating_database_errors():
                return run_with(settings, context)
        except StopRequested:
            print(f"stopped: {stopped}", file=sys.stderr)
            return INTERRUPTED
        except OSError as error:
            raise BackupError(f"{error.filename}: {error.strerror}") from error


def _restore_into(
    settings: Settings, source: Path, context: RunContext, *, is_replacing: bool
) -> int:
    """Restore and compare; return 0 only if everything is equal."""
    directory = find_backup(source)
    manifest = verified_manifest(directory)
    url = settings.database_url.get_secret_value()
    text = f"{directory}: of {manifest.taken_at:%Y-%m-%d %H:%M:%SZ}, version {manifest.version}"
    print(text, flush=True)
    compared = restore_into(url, directory, manifest, context, is_replacing=is_replacing)
    print(_table(compared))
    different = sum(not comparison.is_equal for comparison in compared)
    if different:
        print(f"{different} tables differ from the backup: do not use this database")
        return 1
    if manifest.schema_revision != head_revision():
        print(f"migrating the schema from {manifest.schema_revision} to {head_revision()}")
        upgrade(url)
    return 1 if check_usage(settings) else 0


def _with_url(settings: Settings, url: str) -> Settings:
    return settings.model_copy(update={"database_url": SecretStr(url)})


def _table(compared: Sequence[Comparison]) -> str:
    rows = [("table", "rows", "restored", "tokens", "restored", "")]
    for comparison in compared:
        expected, found = _cells(comparison.expected), _cells(comparison.found)
        verdict = "" if comparison.is_equal else "DIFFERENT"
        rows.append((comparison.table, expected[0], found[0], expected[1], found[1], verdict))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _cells(count: TableCount | None) -> tuple[str, str]:
    if count is None:
        return "none", ""
    return f"{count.rows:,}", f"{sum(count.tokens.values()):,}" if count.tokens else ""
