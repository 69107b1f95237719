"""The database part of `bountycoder up`, `migrate` and `seed`."""

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
from core.ids import Prefix, format_id
from core.passwords.hashing import password_matches
from migrations.run import downgrade, upgrade
from models.database.base import DATABASE_AWAY, open_database, sessions
from models.database.pooler_check import refuse_transaction_pooler
from models.seed import replace_default_passwords, seed_admin, seed_development_key

#: High enough not to disturb experiments with the development key.
DEVELOPMENT_RATE_LIMIT = 600


@dataclass(frozen=True, slots=True)
class DevelopmentCredentials:
    """Credentials of the admin and the development key.

    Attributes:
        admin_password: `None` if it has been changed.
    """

    admin_email: str
    admin_password: str | None = field(repr=False)
    key_id: str
    key_secret: str = field(repr=False)


def migrate_and_seed(settings: Settings, *, key_file: Path) -> DevelopmentCredentials:
    """Migrate the schema; create an admin and a development key if there are none.

    Writes the key's secret to the private file `key_file`, so that a second start prints it too.

    Raises:
        LauncherError: the database is away.
    """
    refuse_transaction_pooler(settings)
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
        key_id=format_id(Prefix.KEY, key.id),
        key_secret=secret.text,
    )


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    if name == "migrate":
        parser.add_argument(
            "--down-to", metavar="REVISION", help="migrate down to it; `base` removes everything"
        )
        parser.set_defaults(run=_migrate)
    else:
        parser.set_defaults(run=_seed)


def _migrate(args: argparse.Namespace) -> int:
    settings = Settings.from_environment(os.environ)
    refuse_transaction_pooler(settings)
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
    refuse_transaction_pooler(settings)
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
    """In production, replace the admins' well-known default password."""
    if not settings.is_production:
        return
    engine = open_database(settings)
    with sessions(engine).begin() as session:
        password = settings.admin_password.get_secret_value()
        replaced = replace_default_passwords(session, password=password)
    engine.dispose()
    for email in replaced:
        print(f"{email} had the default password; it is now ADMIN_PASSWORD")


@contextmanager
def translating_database_errors() -> Iterator[None]:
    """Translate errors of a database that is away into a `LauncherError` of one line."""
    try:
        yield
    except DATABASE_AWAY as error:
        raise LauncherError(f"the database does not respond: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
