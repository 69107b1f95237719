"""One watched instance for all tests of monitoring: it takes seconds to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from core.settings import Settings
from tests.monitoring.instance import Instance, watched_instance
from tests.monitoring.programs import PROGRAMS, program


@pytest.fixture(scope="session")
def instance(_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    for name in PROGRAMS:
        program(name)
    with watched_instance(_settings, tmp_path_factory.mktemp("watched")) as watched:
        yield watched
