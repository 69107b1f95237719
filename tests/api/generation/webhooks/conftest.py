"""A service whose workers may call receivers on this machine, and the credentials of a key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from core.config.settings import Settings
from models.database.base import SessionFactory
from tests.support.http.webhooks import WEBHOOK_TIMEOUT
from tests.support.service import Service


@pytest.fixture(scope="module")
def webhook_service(
    base_settings: Settings, _redis: redis.Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service with two workers, which may call receivers on this machine."""
    changes = {
        "webhook_allowed_networks": "127.0.0.0/8",
        "webhook_timeout_seconds": WEBHOOK_TIMEOUT,
    }
    directory = tmp_path_factory.mktemp("webhooks")
    with Service.started(base_settings, directory, workers=2, **changes) as running:
        yield running


@pytest.fixture(scope="module")
def rows(webhook_service: Service) -> Iterator[SessionFactory]:
    yield webhook_service.sessions


@pytest.fixture(scope="module")
def key(webhook_service: Service) -> dict[str, Any]:
    return webhook_service.make_key()


@pytest.fixture(scope="module")
def headers(key: dict[str, Any]) -> dict[str, str]:
    return {"x-api-key": key["secret"]}
