"""A PostgreSQL with our schema and a Valkey for one benchmark, as durable as in production."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.embedded.postgres import Postgres
from cli.embedded.valkey import Valkey
from core.settings import Settings
from migrations.run import upgrade

#: Where the tests keep the converted small model.
MODEL = Path(__file__).parents[2] / ".cache" / "models" / "smollm2-135m-instruct"


@contextmanager
def own_servers(model: Path, **environment: str) -> Iterator[tuple[Settings, Path]]:
    """Run the servers; give settings for them and a directory for logs."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        postgres = Postgres(directory / "postgres", log_dir=directory)
        valkey = Valkey(directory / "valkey", log_dir=directory)
        servers = {"DATABASE_URL": postgres.url, "REDIS_URL": valkey.url, "MODEL_PATH": str(model)}
        try:
            postgres.start()
            valkey.start()
            upgrade(postgres.url)
            yield Settings.from_environment({**servers, **environment}), directory
        finally:
            valkey.stop()
            postgres.stop()
