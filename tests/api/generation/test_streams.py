"""Streams send all text once and in order, also after failures."""

from __future__ import annotations

import itertools
import time

import pytest

from core.ids import Prefix, parse_id
from core.redis.client import open_redis
from tests.support.http.jobs import PROMPT, job_of, stream_of
from tests.support.http.sse import Event, events, text_of
from tests.support.polling import wait_until
from tests.support.service import PACE, Service


@pytest.fixture(scope="module")
def headers(slow_service: Service) -> dict[str, str]:
    return {"x-api-key": slow_service.make_key()["secret"]}


def follow(
    service: Service, headers: dict[str, str], job_id: str, after: str | None = None
) -> list[Event]:
    extra = {"Last-Event-ID": after} if after is not None else {}
    response = service.call(
        "GET", f"/api/llm/jobs/{job_id}/stream", headers={**headers, **extra}, stream=True
    )
    return list(events(response))


@pytest.mark.alone
def test_a_stream_sends_text_as_it_is_generated_then_reason_usage_and_done(
    slow_service: Service, headers: dict[str, str]
) -> None:
    response = stream_of(slow_service, headers, stream=True, maxTokens=40)
    received, times = [], []
    for event in events(response):
        received.append(event)
        times.append(time.monotonic())

    job = job_of(slow_service, headers, received[0].json["id"])
    assert text_of(received) == job["result"]["choices"][0]["text"]
    assert received[-1].data == "[DONE]"
    end = received[-2].json
    assert end["choices"] == [{"text": "", "index": 0, "finish_reason": "length"}]
    assert end["usage"] == job["usage"]
    assert {e.json["object"] for e in received[:-1]} == {"text_completion"}
    assert len(received) > 20
    assert times[-1] - times[0] > 0.5 * 40 / PACE  # the events are spread over the run
    assert response.headers["x-ratelimit-limit-requests"]


def test_each_of_n_choices_is_streamed_whole(
    slow_service: Service, headers: dict[str, str]
) -> None:
    received = list(events(stream_of(slow_service, headers, stream=True, maxTokens=30, n=3)))

    choices = job_of(slow_service, headers, received[0].json["id"])["result"]["choices"]
    assert [text_of(received, i) for i in range(3)] == [c["text"] for c in choices]
    assert len(received[-2].json["choices"]) == 3


def test_a_stream_is_resumed_after_any_of_its_events(
    slow_service: Service, headers: dict[str, str]
) -> None:
    received = list(events(stream_of(slow_service, headers, stream=True, maxTokens=30)))
    job_id = received[0].json["id"]
    whole = text_of(received)

    for place in (0, 3, len(received) - 3, len(received) - 2):
        rest = follow(slow_service, headers, job_id, after=received[place].id)
        assert text_of(received[: place + 1]) + text_of(rest) == whole
        assert rest[-1].data == "[DONE]"
    assert text_of(follow(slow_service, headers, job_id)) == whole


@pytest.mark.alone
def test_a_follower_may_join_a_running_job_late(
    slow_service: Service, headers: dict[str, str]
) -> None:
    body = {"prompt": PROMPT, "maxTokens": 60}
    job = slow_service.call("POST", "/api/llm/jobs", json=body, headers=headers).json()
    wait_until(lambda: job_of(slow_service, headers, job["id"])["status"] == "running", 10)
    time.sleep(0.4)  # some tokens are made; nothing shows them while no client follows

    began = time.monotonic()
    response = slow_service.call(
        "GET", f"/api/llm/jobs/{job['id']}/stream", headers=headers, stream=True
    )
    stream = events(response)
    first = next(stream)
    assert time.monotonic() - began < 1.5  # long before its end
    received = [first, *stream]

    ended = job_of(slow_service, headers, job["id"])
    assert text_of(received) == ended["result"]["choices"][0]["text"]


def test_two_followers_get_the_same_text(slow_service: Service, headers: dict[str, str]) -> None:
    mine = events(stream_of(slow_service, headers, stream=True, maxTokens=40))
    first = list(itertools.islice(mine, 5))

    other = follow(slow_service, headers, first[0].json["id"])

    assert text_of([*first, *mine]) == text_of(other)


def test_a_stream_with_log_probabilities_sends_all_its_text(
    slow_service: Service, headers: dict[str, str]
) -> None:
    """The echo engine reports no log probabilities."""
    received = list(events(stream_of(slow_service, headers, stream=True, maxTokens=20, logprobs=2)))

    job = job_of(slow_service, headers, received[0].json["id"])
    assert text_of(received) == job["result"]["choices"][0]["text"]


def test_the_text_survives_a_broken_subscription(
    slow_service: Service, headers: dict[str, str]
) -> None:
    client = open_redis(slow_service.settings)
    stream = events(stream_of(slow_service, headers, stream=True, maxTokens=60))
    received = list(itertools.islice(stream, 5))

    client.execute_command("CLIENT KILL TYPE pubsub")
    client.close()
    received += stream

    job = job_of(slow_service, headers, received[0].json["id"])
    assert text_of(received) == job["result"]["choices"][0]["text"]
    assert received[-1].data == "[DONE]"


@pytest.mark.parametrize("position", ["x", "1-2", "-", "99999999999", "1:2:3:4", "٣", "5"])
def test_a_malformed_position_is_refused(
    slow_service: Service, headers: dict[str, str], position: str
) -> None:
    body = {"prompt": "short", "maxTokens": 3}
    job = slow_service.call("POST", "/api/llm/jobs", json=body, headers=headers).json()
    extra = {"Last-Event-ID": position.encode()}

    response = slow_service.call(
        "GET", f"/api/llm/jobs/{job['id']}/stream", headers={**headers, **extra}
    )

    assert response.status_code == 400
    assert parse_id(Prefix.JOB, job["id"])
