"""The prepared statements of a worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from core.config.settings import Settings
from models.database.base import open_database
from models.database.prepared import Statements


@pytest.fixture
def statements(base_settings: Settings) -> Iterator[Statements]:
    """Statements over connections of this test's own, planned as those of a worker."""
    engine = open_database(base_settings, is_autocommit=True, has_generic_plans=True)
    yield Statements(engine, max_idle=1)
    engine.dispose()
