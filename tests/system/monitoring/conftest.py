"""A monitored service for the tests of a module, because its start takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from core.config.settings import Settings
from tests.support.monitoring.monitored_service import MonitoredService, monitored_service
from tests.support.monitoring.programs import PROGRAMS, program


@pytest.fixture(scope="module")
def monitored(
    _settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MonitoredService]:
    for name in PROGRAMS:
        program(name)
    with monitored_service(_settings, tmp_path_factory.mktemp("monitored")) as running:
        yield running
