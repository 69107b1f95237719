"""The readiness of the service: its parts, and the ready workers of its model."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.service import Service


@pytest.fixture(scope="module")
def key(service: Service) -> dict[str, Any]:
    return service.make_key()


def test_the_list_of_models_counts_the_ready_workers(service: Service, key: dict[str, Any]) -> None:
    response = service.call("GET", "/api/llm/models", headers={"x-api-key": key["secret"]})

    model = response.json()["data"][0]
    assert model["id"] == service.settings.model_name
    assert model["contextLength"] == 8192
    assert model["readyWorkers"] == 1
    assert service.call("GET", "/api/llm/models").status_code == 401


def test_readiness_names_each_part(service: Service) -> None:
    assert service.call("GET", "/healthz").json() == {"status": "ok"}
    assert service.call("GET", "/readyz").json() == {
        "status": "ready",
        "parts": {"database": "ok", "redis": "ok", "workers": "ok"},
    }
