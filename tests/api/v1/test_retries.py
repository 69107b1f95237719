"""When the official client tries again, and when it does not."""

from __future__ import annotations

import threading
import time
from typing import Any

import openai as package
import pytest
from openai import DefaultHttpxClient, OpenAI

from tests.api.v1.client import connect, model_of, say
from tests.api.v1.test_errors import ask
from tests.service import Service


def counted(service: Service, key: dict[str, Any], times: list[float], retries: int) -> OpenAI:
    """Return a client that notes when each of its requests leaves."""
    http = DefaultHttpxClient(event_hooks={"request": [lambda _: times.append(time.monotonic())]})
    return connect(service, key, max_retries=retries, http_client=http)


def test_the_client_comes_back_when_a_429_says_so(paced: Service) -> None:
    key = paced.make_key(maxInFlight=1)
    times: list[float] = []
    with connect(paced, key) as first, counted(paced, key, times, retries=9) as second:
        stream = first.chat.completions.create(
            model=model_of(paced), messages=[say("word " * 80)], max_tokens=75, stream=True
        )
        next(stream)
        reading = threading.Thread(target=lambda: list(stream))
        reading.start()
        answer = ask(second, paced, max_tokens=2)
        reading.join(20)

    assert answer.usage.completion_tokens == 2
    assert len(times) >= 2
    # retry-after-ms of a full house is a second; by itself the client waits half of one first.
    assert times[1] - times[0] >= 0.99


def test_the_client_does_not_come_back_where_waiting_cannot_help(paced: Service) -> None:
    key = paced.make_key(monthlyTokenLimit=5)
    times: list[float] = []
    with (
        counted(paced, key, times, retries=3) as client,
        pytest.raises(package.RateLimitError) as caught,
    ):
        ask(client, paced, max_tokens=100)

    assert caught.value.code == "monthly_quota_exceeded"
    assert len(times) == 1
