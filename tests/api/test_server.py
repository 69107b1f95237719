"""How the API's processes stop."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import redis
import requests

from core.settings import Settings
from tests.service import Service, wait_until


@pytest.mark.alone
def test_an_idle_connection_does_not_hold_up_the_stop(
    base_settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    with (
        Service.started(base_settings, tmp_path, drain_seconds=60.0) as service,
        requests.Session() as kept_open,
    ):
        assert service.api is not None
        assert kept_open.get(f"{service.url}/healthz", timeout=10).status_code == 200

        began = time.monotonic()
        service.api.send_signal(signal.SIGTERM)
        service.api.wait(30)

        assert time.monotonic() - began < 10


def test_a_stopping_api_answers_what_it_has_begun(
    base_settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    """Beside it, a connection that waits for its next request is closed."""
    pace = {"echo_tokens_per_second": 15.0, "drain_seconds": 30.0, "api_processes": 1}
    with (
        Service.started(base_settings, tmp_path, **pace) as service,
        requests.Session() as kept_open,
    ):
        assert service.api is not None
        assert kept_open.get(f"{service.url}/healthz", timeout=10).status_code == 200
        answers: list[Any] = []
        secret = service.make_key()["secret"]

        def call() -> None:
            answers.append(
                service.call(
                    "POST",
                    "/api/llm/generate",
                    json={"prompt": "one two three four " * 10, "maxTokens": 40},
                    headers={"x-api-key": secret},
                )
            )

        caller = threading.Thread(target=call)
        caller.start()
        wait_until(lambda: client.pubsub_numsub("job-news")[0][1], 10)
        time.sleep(0.3)

        service.api.send_signal(signal.SIGTERM)
        service.api.wait(30)
        caller.join(10)

        assert [answer.status_code for answer in answers] == [200]
