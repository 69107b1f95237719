from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from tests.support.http.openai_client import connect
from tests.support.service import Service


@pytest.fixture(scope="module")
def key(service: Service) -> dict[str, Any]:
    return service.make_key()


@pytest.fixture(scope="module")
def openai(service: Service, key: dict[str, Any]) -> Iterator[OpenAI]:
    """The official client of OpenAI's API, connected to the service."""
    with connect(service, key) as client:
        yield client


@pytest.fixture(scope="module")
def slow_openai(slow_service: Service) -> Iterator[OpenAI]:
    """The official client, connected to the slow service."""
    with connect(slow_service, slow_service.make_key()) as client:
        yield client
