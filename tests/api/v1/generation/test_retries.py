"""When the official client retries a request."""

from __future__ import annotations

import threading
import time
from typing import Any

import openai as package
import pytest
from openai import DefaultHttpxClient, OpenAI

from tests.support.http.openai_client import ask, connect, model_of, say
from tests.support.service import Service


def counted(service: Service, key: dict[str, Any], times: list[float], retries: int) -> OpenAI:
    """Return a client that records when it sends each request."""
    http = DefaultHttpxClient(event_hooks={"request": [lambda _: times.append(time.monotonic())]})
    return connect(service, key, max_retries=retries, http_client=http)


def test_the_client_comes_back_when_a_429_says_so(slow_service: Service) -> None:
    key = slow_service.make_key(maxInFlight=1)
    times: list[float] = []
    with (
        connect(slow_service, key) as first,
        counted(slow_service, key, times, retries=9) as second,
    ):
        stream = first.chat.completions.create(
            model=model_of(slow_service), messages=[say("word " * 40)], max_tokens=35, stream=True
        )
        next(stream)
        reading = threading.Thread(target=lambda: list(stream))
        reading.start()
        response = ask(second, slow_service, max_tokens=2)
        reading.join(20)

    assert response.usage.completion_tokens == 2
    assert len(times) >= 2
    # retry-after-ms under overload is a second; by default the client first waits half a second.
    assert times[1] - times[0] >= 0.99


def test_the_client_does_not_come_back_where_waiting_cannot_help(slow_service: Service) -> None:
    key = slow_service.make_key(monthlyTokenLimit=5)
    times: list[float] = []
    with (
        counted(slow_service, key, times, retries=3) as client,
        pytest.raises(package.RateLimitError) as caught,
    ):
        ask(client, slow_service, max_tokens=100)

    assert caught.value.code == "monthly_quota_exceeded"
    assert len(times) == 1
