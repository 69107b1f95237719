"""`bountycoder demo-data`: fill a database with two months of usage, to try the pages."""

from __future__ import annotations

import argparse
import os
import secrets
import time

from cli.argument_types import whole_number
from cli.commands.database import translating_database_errors
from core.config.settings import MIN_PASSWORD_LENGTH, Settings
from core.errors import LauncherError
from core.passwords.hashing import hash_password
from models.database.base import SessionFactory, open_database, sessions, utc_now
from models.demo.data import DemoSize, has_jobs, insert_demo_data, vacuum_demo_tables
from models.usage.rollup_jobs import roll_up_usage

MAX_NUMBER = 10_000_000


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    size = DemoSize()
    number = whole_number(most=MAX_NUMBER)
    parser.add_argument("--users", type=number, default=size.users, metavar="N")
    parser.add_argument("--keys", type=number, default=size.keys, metavar="N")
    parser.add_argument("--jobs", type=number, default=size.jobs, metavar="N")
    parser.add_argument("--days", type=number, default=size.days, metavar="N")
    parser.add_argument(
        "--password",
        type=_password,
        help="of all new users; default: a random one",
    )
    parser.add_argument(
        "--force", action="store_true", help="even if there are jobs already; cannot be undone"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    settings = Settings.from_environment(os.environ)
    if settings.is_production:
        raise LauncherError("demo data is not allowed in production")
    password = args.password or secrets.token_urlsafe(12)
    size = DemoSize(users=args.users, keys=args.keys, jobs=args.jobs, days=args.days)
    with translating_database_errors():
        seconds = fill(settings, size, password_hash=hash_password(password), is_forced=args.force)
    summary = f"{size.users} users, {size.keys} keys, {size.jobs} jobs"
    print(f"made {summary} in {seconds:.0f} s; each user's password: {password}")
    return 0


def fill(settings: Settings, size: DemoSize, *, password_hash: str, is_forced: bool) -> float:
    """Create the data and return the elapsed seconds.

    Raises:
        LauncherError: the database has jobs, and `is_forced` is False.
    """
    engine = open_database(settings)
    began = time.monotonic()
    try:
        with sessions(engine).begin() as session:
            if has_jobs(session) and not is_forced:
                raise LauncherError("this database has jobs already: --force adds the demo data")
            insert_demo_data(
                session,
                size,
                now=utc_now(),
                password_hash=password_hash,
                model=settings.model_name,
            )
        vacuum_demo_tables(engine)  # the roll-up needs fresh statistics to use its indexes
        _close_usage(sessions(engine))
        vacuum_demo_tables(engine)
    finally:
        engine.dispose()
    return time.monotonic() - began


def _close_usage(database: SessionFactory) -> None:
    """Roll up the days of the demo data at once, instead of later by a worker."""
    while True:
        with database.begin() as session:
            if not roll_up_usage(session):
                return


def _password(given: str) -> str:
    if len(given) < MIN_PASSWORD_LENGTH:
        raise argparse.ArgumentTypeError(f"must have at least {MIN_PASSWORD_LENGTH} characters")
    return given
