"""`bountycoder backup`, `backup verify` and `restore`: the database as files, and back."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from cli.backup.create import RunContext, make_backup
from cli.backup.restore import Comparison, restore_into, scratch_database, verified_manifest
from cli.backup.store import BackupStore, find_backup
from cli.commands.database import translating_database_errors
from cli.commands.usage import check_usage
from cli.system.signals import Interruption, StopRequested
from core.config.settings import Settings
from core.errors import BackupError
from migrations.run import head_revision, upgrade
from models.database.pooler_check import prove_sessions
from models.maintenance.backup import TableCount, named_elsewhere

#: Of `pg_dump` or `pg_restore`.
TIMEOUT_SECONDS = 6 * 3600.0
INTERRUPTED = 130
MOST_KEPT = 100_000


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    if name == "backup":
        _add_backup(parser)
    else:
        _add_restore(parser)


def _add_backup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", type=Path, metavar="DIR", help="where backups are kept")
    parser.add_argument(
        "--keep", type=_count, metavar="N", help="delete all but the newest N when it is done"
    )
    _add_timeout(parser)
    parser.set_defaults(run=_backup, parser=parser)
    actions = parser.add_subparsers(metavar="verify DIR")
    verify = actions.add_parser(
        "verify", help="restore a backup into a scratch database beside DATABASE_URL's and compare"
    )
    verify.add_argument("source", type=Path, metavar="DIR", help=_SOURCE)
    # Suppressed: its default must not replace what stands before `verify`.
    _add_timeout(verify, default=argparse.SUPPRESS)
    verify.set_defaults(run=_verify)


def _add_restore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from", dest="source", type=Path, required=True, metavar="DIR", help=_SOURCE
    )
    parser.add_argument(
        "--into",
        metavar="URL",
        help="another database than DATABASE_URL; without a password: DATABASE_URL's is taken",
    )
    parser.add_argument("--replace", action="store_true", help="delete what the database holds now")
    _add_timeout(parser)
    parser.set_defaults(run=_restore)


_SOURCE = "a backup, or a directory of backups: its newest"


def _add_timeout(parser: argparse.ArgumentParser, *, default: Any = TIMEOUT_SECONDS) -> None:
    parser.add_argument("--timeout", type=float, default=default, metavar="SECONDS")


def _backup(args: argparse.Namespace) -> int:
    if args.to is None:
        args.parser.error("--to is needed")
    store = BackupStore(args.to)

    def work_on(settings: Settings, context: RunContext) -> int:
        path, manifest = make_backup(settings, store, context)
        for later in store.later_than(path):
            print(f"{later} has a later time: the clock was wrong once, check it", file=sys.stderr)
        rows = sum(count.rows for count in manifest.tables.values())
        size = sum(file.bytes for file in manifest.files.values())
        print(f"{path}: {len(manifest.tables)} tables, {rows:,} rows, {size:,} bytes")
        for gone in store.prune(args.prune, made=path) if args.prune else ():
            print(f"deleted {gone}")
        return 0

    return _run(args, work_on, stopped="nothing is left of this backup")


def _verify(args: argparse.Namespace) -> int:
    if args.to is not None or args.prune is not None:
        args.parser.error("--to and --keep are for making a backup, not for `verify`")

    def work_on(settings: Settings, context: RunContext) -> int:
        with scratch_database(settings.database_url.get_secret_value()) as url:
            return _restored(_on(settings, url), args.source, context, is_replacing=False)

    return _run(args, work_on, stopped="the scratch database is dropped")


def _restore(args: argparse.Namespace) -> int:
    def work_on(settings: Settings, context: RunContext) -> int:
        url = settings.database_url.get_secret_value()
        if args.into is not None:
            try:
                url = named_elsewhere(url, args.into)
            except ValueError as error:
                raise BackupError(f"--into: {error}") from error
        return _restored(_on(settings, url), args.source, context, is_replacing=args.replace)

    return _run(args, work_on, stopped="the database is as it was")


def _run(
    args: argparse.Namespace, work_on: Callable[[Settings, RunContext], int], *, stopped: str
) -> int:
    """Do the work; a signal ends it in good order, and whatever fails is one clear line."""
    settings = Settings.from_environment(os.environ)
    prove_sessions(settings)
    with Interruption() as interruption:
        context = RunContext(os.environ, args.timeout, interruption.check)
        try:
            with translating_database_errors():
                return work_on(settings, context)
        except StopRequested:
            print(f"stopped: {stopped}", file=sys.stderr)
            return INTERRUPTED
        except OSError as error:
            raise BackupError(f"{error.filename}: {error.strerror}") from error


def _restored(settings: Settings, source: Path, context: RunContext, *, is_replacing: bool) -> int:
    """Restore and check; 0 only if everything agrees."""
    directory = find_backup(source)
    manifest = verified_manifest(directory)
    url = settings.database_url.get_secret_value()
    text = f"{directory}: of {manifest.taken_at:%Y-%m-%d %H:%M:%SZ}, version {manifest.version}"
    print(text, flush=True)
    compared = restore_into(url, directory, manifest, context, is_replacing=is_replacing)
    print(_table(compared))
    different = sum(not comparison.is_equal for comparison in compared)
    if different:
        print(f"{different} tables are not as they were: do not use this database")
        return 1
    if manifest.schema_revision != head_revision():
        print(f"schema {manifest.schema_revision} is brought to {head_revision()}")
        upgrade(url)
    return 1 if check_usage(settings) else 0


def _on(settings: Settings, url: str) -> Settings:
    return settings.model_copy(update={"database_url": SecretStr(url)})


def _table(compared: Sequence[Comparison]) -> str:
    rows = [("table", "rows", "restored", "tokens", "restored", "")]
    for comparison in compared:
        expected, found = _shown(comparison.expected), _shown(comparison.found)
        verdict = "" if comparison.is_equal else "DIFFERENT"
        rows.append((comparison.table, expected[0], found[0], expected[1], found[1], verdict))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _shown(count: TableCount | None) -> tuple[str, str]:
    if count is None:
        return "none", ""
    return f"{count.rows:,}", f"{sum(count.tokens.values()):,}" if count.tokens else ""


def _count(given: str) -> int:
    if not (given.isascii() and given.isdigit() and 1 <= int(given) <= MOST_KEPT):
        raise argparse.ArgumentTypeError(f"it must be between 1 and {MOST_KEPT}")
    return int(given)
