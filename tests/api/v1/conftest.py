from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from openai import OpenAI

from core.settings import Settings
from tests.api.v1.client import connect
from tests.service import Service

#: Tokens a second of each stream.
PACE = 25.0


@pytest.fixture(scope="module")
def key(service: Service) -> dict[str, Any]:
    return service.make_key()


@pytest.fixture(scope="module")
def openai(service: Service, key: dict[str, Any]) -> Iterator[OpenAI]:
    """The official client, at the echo engine."""
    with connect(service, key) as client:
        yield client


@pytest.fixture(scope="module")
def paced(
    base_settings: Settings, _redis: redis.Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service whose answers take their time."""
    directory = tmp_path_factory.mktemp("paced")
    with Service.started(base_settings, directory, echo_tokens_per_second=PACE) as running:
        yield running


@pytest.fixture(scope="module")
def paced_openai(paced: Service) -> Iterator[OpenAI]:
    with connect(paced, paced.make_key()) as client:
        yield client
