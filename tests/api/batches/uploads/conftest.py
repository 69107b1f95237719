"""The service to which tests upload files."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from core.config.settings import Settings
from tests.support.service import Service

SMALL = {"max_batch_bytes": 300_000, "max_body_bytes": 20_000, "max_batch_lines": 200}


@pytest.fixture(scope="module")
def service(
    base_settings: Settings, _redis: redis.Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """An API without workers: uploaded batches stay as they are."""
    with Service.started(
        base_settings, tmp_path_factory.mktemp("service"), workers=0, **SMALL
    ) as running:
        yield running
