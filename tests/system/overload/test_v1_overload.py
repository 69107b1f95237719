"""The official client's error when the queue is too long. The service has no worker."""

from __future__ import annotations

import openai as package
import pytest
import redis

from core.config.settings import Settings
from tests.support.http.openai_client import ask, connect
from tests.support.service import Service


def test_a_queue_that_is_too_long_is_a_server_error_with_a_retry_time(
    base_settings: Settings, redis_client: redis.Redis, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("overloaded")
    changes = {"max_queue_length": 1, "api_processes": 1}
    with Service.started(base_settings, directory, workers=0, **changes) as service:
        key = service.make_key()
        headers = {"x-api-key": key["secret"]}
        service.call("POST", "/api/llm/jobs", json={"prompt": "x"}, headers=headers)
        with (
            connect(service, key) as asking,
            pytest.raises(package.InternalServerError) as caught,
        ):
            ask(asking, service)

    assert (caught.value.status_code, caught.value.code) == (503, "overloaded")
    assert int(caught.value.response.headers["retry-after"]) >= 1
