"""A PostgreSQL that a test may stop, freeze or make read-only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.servers.postgres import Postgres
from migrations.run import upgrade


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    """A PostgreSQL of this test alone; it logs to `tmp_path / "logs"`."""
    (tmp_path / "logs").mkdir()
    postgres = Postgres(tmp_path / "postgres", log_dir=tmp_path / "logs", is_durable=False)
    postgres.start()
    try:
        upgrade(postgres.url)
        yield postgres
    finally:
        postgres.stop()
