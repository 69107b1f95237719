"""What `bountycoder up`, `migrate` and `seed` do with the database."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cli.system.private_files import write_private
from core.config.settings import Settings
from core.errors import LauncherError
from core.ids import Prefix, show_id
from core.passwords.hashing import password_matches
from migrations.run import downgrade, upgrade
from models.database.base import DATABASE_AWAY, open_database, sessions
from models.database.pooler_check import prove_sessions
from models.seed import replace_default_passwords, seed_admin, seed_development_key

#: The development key is for trying things out: a limit that does not stand in the way.
DEVELOPMENT_RATE_LIMIT = 600


@dataclass(frozen=True, slots=True)
class DevelopmentCredentials:
    """How to get in. `admin_password` is `None` once it was changed."""

    admin_email: str
    admin_password: str | None = field(repr=False)
    key_id: str
    key_secret: str = field(repr=False)


def migrate_and_seed(settings: Settings, *, key_file: Path) -> DevelopmentCredentials:
    """Bring the schema up to date and make sure of an admin and a key that works.

    The key's secret is kept in `key_file`, for its owner only: a second start prints it again.

    Raises:
        LauncherError: the database does not answer.
    """
    prove_sessions(settings)
    with translating_database_errors():
        upgrade(settings.database_url.get_secret_value())
    engine = open_database(settings)
    try:
        with sessions(engine).begin() as session:
            password = settings.admin_password.get_secret_value()
            admin = seed_admin(session, email=settings.admin_email, password=password)
            remembered = key_file.read_text().strip() if key_file.exists() else None
            key, secret = seed_development_key(
                session, owner=admin, remembered=remembered, rate_limit=DEVELOPMENT_RATE_LIMIT
            )
    finally:
        engine.dispose()
    if secret.text != remembered:
        write_private(key_file, secret.text + "\n")
    is_unchanged = password_matches(admin.password_hash, password)
    return DevelopmentCredentials(
        admin_email=admin.email,
        admin_password=password if is_unchanged else None,
        key_id=show_id(Prefix.KEY, key.id),
        key_secret=secret.text,
    )


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    if name == "migrate":
        parser.add_argument("--down-to", metavar="REVISION", help="go back to it; `base` is empty")
        parser.set_defaults(run=_migrate)
    else:
        parser.set_defaults(run=_seed)


def _migrate(args: argparse.Namespace) -> int:
    settings = Settings.from_environment(os.environ)
    prove_sessions(settings)
    url = settings.database_url.get_secret_value()
    with translating_database_errors():
        if args.down_to:
            downgrade(url, args.down_to)
        else:
            upgrade(url)
            _replace_default_passwords(settings)
    return 0


def _seed(args: argparse.Namespace) -> int:
    settings = Settings.from_environment(os.environ)
    prove_sessions(settings)
    engine = open_database(settings)
    with translating_database_errors(), sessions(engine).begin() as session:
        admin = seed_admin(
            session,
            email=settings.admin_email,
            password=settings.admin_password.get_secret_value(),
        )
    engine.dispose()
    with translating_database_errors():
        _replace_default_passwords(settings)
    print(f"admin: {admin.email}")
    return 0


def _replace_default_passwords(settings: Settings) -> None:
    """Let no admin of a production have the password that everybody knows."""
    if not settings.is_production:
        return
    engine = open_database(settings)
    with sessions(engine).begin() as session:
        password = settings.admin_password.get_secret_value()
        replaced = replace_default_passwords(session, password=password)
    engine.dispose()
    for email in replaced:
        print(f"{email} had the default password: it is ADMIN_PASSWORD now")


@contextmanager
def translating_database_errors() -> Iterator[None]:
    """Turn a database that does not answer into one clear line."""
    try:
        yield
    except DATABASE_AWAY as error:
        raise LauncherError(f"the database does not answer: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
