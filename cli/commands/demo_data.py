"""`bountycoder demo-data`: fill a database as if it had been used for weeks, to try the pages."""

from __future__ import annotations

import argparse
import os
import secrets
import time

from cli.commands.database import translating_database_errors
from core.config.settings import MIN_PASSWORD_LENGTH, Settings
from core.errors import LauncherError
from core.passwords.hashing import hash_password
from models.database.base import SessionFactory, open_database, sessions, utc_now
from models.demo.data import DemoSize, has_jobs, make_demo_data, tidy
from models.usage.rollup_jobs import close_usage

_MOST = 10_000_000


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    size = DemoSize()
    parser.add_argument("--users", type=_number, default=size.users, metavar="N")
    parser.add_argument("--keys", type=_number, default=size.keys, metavar="N")
    parser.add_argument("--jobs", type=_number, default=size.jobs, metavar="N")
    parser.add_argument("--days", type=_number, default=size.days, metavar="N")
    parser.add_argument(
        "--password",
        type=_password,
        help="of all users that are made; one is invented if not given",
    )
    parser.add_argument(
        "--force", action="store_true", help="also where there are jobs: it cannot be undone"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    settings = Settings.from_environment(os.environ)
    if settings.is_production:
        raise LauncherError("there is no demo data in production")
    password = args.password or secrets.token_urlsafe(12)
    size = DemoSize(users=args.users, keys=args.keys, jobs=args.jobs, days=args.days)
    with translating_database_errors():
        seconds = fill(settings, size, password_hash=hash_password(password), is_forced=args.force)
    made = f"{size.users} users, {size.keys} keys, {size.jobs} jobs"
    print(f"made {made} in {seconds:.0f} s; each user's password: {password}")
    return 0


def fill(settings: Settings, size: DemoSize, *, password_hash: str, is_forced: bool) -> float:
    """Make the data and return the seconds that it took.

    Raises:
        LauncherError: there are jobs, and it is not forced.
    """
    engine = open_database(settings)
    began = time.monotonic()
    try:
        with sessions(engine).begin() as session:
            if has_jobs(session) and not is_forced:
                raise LauncherError("this database has jobs: --force adds the demo data to them")
            make_demo_data(
                session,
                size,
                now=utc_now(),
                password_hash=password_hash,
                model=settings.model_name,
            )
        tidy(engine)  # closing reads days by their indexes
        _close_usage(sessions(engine))
        tidy(engine)
    finally:
        engine.dispose()
    return time.monotonic() - began


def _close_usage(database: SessionFactory) -> None:
    """Close the days that were made, which else a worker does by and by."""
    while True:
        with database.begin() as session:
            if not close_usage(session):
                return


def _number(given: str) -> int:
    if not (given.isascii() and given.isdigit() and 1 <= int(given) <= _MOST):
        raise argparse.ArgumentTypeError(f"it must be between 1 and {_MOST}")
    return int(given)


def _password(given: str) -> str:
    if len(given) < MIN_PASSWORD_LENGTH:
        raise argparse.ArgumentTypeError(f"it must have at least {MIN_PASSWORD_LENGTH} characters")
    return given
