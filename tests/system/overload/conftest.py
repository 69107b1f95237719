"""An API of one process, whose memory and slots a test can measure."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from core.config.settings import Settings
from tests.support.service import Service


@pytest.fixture(scope="module")
def single_process_service(
    base_settings: Settings, _redis: redis.Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """One API process without workers."""
    directory = tmp_path_factory.mktemp("single")
    with Service.started(base_settings, directory, workers=0, api_processes=1) as running:
        yield running
