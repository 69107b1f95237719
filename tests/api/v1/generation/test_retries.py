"""The official client retries a request when the error allows it."""

from __future__ import annotations

import threading
import time
from typing import Any

import openai as package
import pytest
from openai import DefaultHttpxClient, OpenAI

from tests.support.http.openai_client import ask, connect, model_of, say
from tests.support.service import Service


def recording_client(
    service: Service, key: dict[str, Any], times: list[float], retries: int
) -> OpenAI:
    """Return a client that records when it sends each request."""
    http = DefaultHttpxClient(event_hooks={"request": [lambda _: times.append(time.monotonic())]})
    return connect(service, key, max_retries=retries, http_client=http)


def test_the_client_retries_a_429_after_the_requested_time(slow_service: Service) -> None:
    key = slow_service.make_key(maxInFlight=1)
    times: list[float] = []
    with (
        connect(slow_service, key) as first,
        recording_client(slow_service, key, times, retries=9) as second,
    ):
        stream = first.chat.completions.create(
            model=model_of(slow_service), messages=[say("word " * 80)], max_tokens=75, stream=True
        )
        next(stream)
        reading = threading.Thread(target=lambda: list(stream))
        reading.start()
        response = ask(second, slow_service, max_tokens=2)
        reading.join(20)

    assert response.usage.completion_tokens == 2
    assert len(times) >= 2
    # retry-after-ms is a second here; by default the client waits half a second first.
    assert times[1] - times[0] >= 0.99


def test_the_client_does_not_retry_when_the_quota_is_exceeded(slow_service: Service) -> None:
    key = slow_service.make_key(monthlyTokenLimit=5)
    times: list[float] = []
    with (
        recording_client(slow_service, key, times, retries=3) as client,
        pytest.raises(package.RateLimitError) as caught,
    ):
        ask(client, slow_service, max_tokens=100)

    assert caught.value.code == "monthly_quota_exceeded"
    assert len(times) == 1
