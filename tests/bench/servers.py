"""A PostgreSQL with our schema and a Valkey for one benchmark, as durable as in production."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cli.commands.demo_data import fill
from cli.servers.postgres import Postgres
from cli.servers.valkey import Valkey
from core.config.settings import Settings
from core.passwords.hashing import hash_password
from migrations.run import upgrade
from models.database.base import open_database, sessions
from models.demo.data import DemoSize, has_jobs
from tests.support.paths import ROOT

#: The directory where the tests keep the converted small model.
MODEL = ROOT / ".cache" / "models" / "smollm2-135m-instruct"
#: The password of every user of the demo data.
DEMO_PASSWORD = "demo password"
#: One user makes the requests of many.
UNBOUND = {"WRITE_RATE_LIMIT": "1000000", "MAX_WAITS_PER_USER": "1000000"}


@contextmanager
def own_servers(
    model: Path, keep: Path | None = None, **environment: str
) -> Iterator[tuple[Settings, Path]]:
    """Run the servers; yield their settings and a directory for logs.

    Args:
        keep: the directory that keeps their data for the next run; a temporary one without it.
    """
    with ExitStack() as stack:
        directory = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        directory.mkdir(parents=True, exist_ok=True)
        postgres = Postgres(directory / "postgres", log_dir=directory)
        valkey = Valkey(directory / "valkey", log_dir=directory)
        servers = {
            **UNBOUND,
            "DATABASE_URL": postgres.url,
            "REDIS_URL": valkey.url,
            "MODEL_PATH": str(model),
        }
        try:
            postgres.start()
            valkey.start()
            upgrade(postgres.url)
            yield Settings.from_environment({**servers, **environment}), directory
        finally:
            valkey.stop()
            postgres.stop()


@contextmanager
def filled_servers(size: DemoSize, keep: Path | None = None) -> Iterator[tuple[Settings, Path]]:
    """Run the servers with the demo data, which is made unless `keep` has it."""
    with own_servers(MODEL, keep) as (settings, directory):
        if not _is_filled(settings):
            password = hash_password(DEMO_PASSWORD)
            seconds = fill(settings, size, password_hash=password, is_forced=False)
            print(f"made {size.jobs:,} jobs in {seconds:.0f} s", flush=True)
        yield settings, directory


def _is_filled(settings: Settings) -> bool:
    engine = open_database(settings)
    try:
        with sessions(engine)() as session:
            return has_jobs(session)
    finally:
        engine.dispose()
