"""A watched instance for the tests of a module: it takes seconds to start, and while it lives it
keeps the machine busy.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from core.config.settings import Settings
from tests.support.monitoring.instance import Instance, watched_instance
from tests.support.monitoring.programs import PROGRAMS, program


@pytest.fixture(scope="module")
def instance(_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    for name in PROGRAMS:
        program(name)
    with watched_instance(_settings, tmp_path_factory.mktemp("watched")) as watched:
        yield watched
