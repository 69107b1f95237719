"""Streams by the official client, sync and async."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import pytest
from openai import APIError, APIStatusError, AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionChunk

from tests.api.sse import Event, events
from tests.api.v1.client import connect, job_of, model_of, say
from tests.conftest import PACE
from tests.service import CALL_SECONDS, Service, wait_until

LONG = "word " * 60


def text_of(chunks: Iterable[ChatCompletionChunk], index: int = 0) -> str:
    return "".join(
        choice.delta.content or ""
        for chunk in chunks
        for choice in chunk.choices
        if choice.index == index
    )


def answer_text(service: Service, chunk_id: str, index: int = 0) -> str:
    """Return the text of the row, once the job has ended."""
    wait_until(lambda: job_of(service, chunk_id).state == "succeeded", 20)
    choices = job_of(service, chunk_id).choices
    assert choices is not None
    return str(choices[index]["text"])


def test_a_chat_is_streamed_as_it_is_made(paced: Service, paced_openai: OpenAI) -> None:
    began = time.monotonic()
    chunks, times = [], []
    for chunk in paced_openai.chat.completions.create(
        model=model_of(paced),
        messages=[say(LONG)],
        max_tokens=40,
        stream=True,
        stream_options={"include_usage": True},
    ):
        chunks.append(chunk)
        times.append(time.monotonic() - began)

    first, last, usage = chunks[0], chunks[-2], chunks[-1]
    assert first.choices[0].delta.role == "assistant"
    assert last.choices[0].finish_reason == "length"
    assert all(c.choices[0].finish_reason is None for c in chunks[:-2])
    assert (usage.choices, last.usage) == ([], None)
    assert usage.usage is not None
    assert usage.usage.completion_tokens == 40
    assert {c.object for c in chunks} == {"chat.completion.chunk"}
    assert len({c.id for c in chunks}) == 1
    assert text_of(chunks) == answer_text(paced, first.id)
    assert times[-1] - times[0] > 0.5 * 40 / PACE  # not all at once at the end


def test_a_completion_is_streamed_as_it_is_made(paced: Service, paced_openai: OpenAI) -> None:
    chunks = list(
        paced_openai.completions.create(
            model=model_of(paced), prompt=LONG, max_tokens=20, stream=True
        )
    )

    assert len(chunks) > 10
    assert "".join(c.choices[0].text for c in chunks) == answer_text(paced, chunks[0].id)
    assert chunks[-1].choices[0].finish_reason == "length"
    assert chunks[-1].usage is None


def test_each_of_n_choices_is_streamed_with_its_role_and_reason(
    paced: Service, paced_openai: OpenAI
) -> None:
    chunks = list(
        paced_openai.chat.completions.create(
            model=model_of(paced), messages=[say(LONG)], max_tokens=15, n=2, stream=True
        )
    )

    for index in range(2):
        own = [c.choices[0] for c in chunks if c.choices[0].index == index]
        assert [bool(choice.delta.role) for choice in own] == [True] + [False] * (len(own) - 1)
        assert [choice.finish_reason for choice in own] == [None] * (len(own) - 1) + ["length"]
        assert text_of(chunks, index) == answer_text(paced, chunks[0].id, index)


def test_the_async_client_streams_too(paced: Service) -> None:
    async def ask() -> list[ChatCompletionChunk]:
        async with AsyncOpenAI(
            base_url=f"{paced.url}/v1", api_key=paced.make_key()["secret"], max_retries=0
        ) as client:
            stream = await client.chat.completions.create(
                model=model_of(paced), messages=[say(LONG)], max_tokens=10, stream=True
            )
            return [chunk async for chunk in stream]

    chunks = asyncio.run(ask())

    assert text_of(chunks) == answer_text(paced, chunks[0].id)


def test_the_helper_for_streams_puts_the_answer_together(
    paced: Service, paced_openai: OpenAI
) -> None:
    with paced_openai.chat.completions.stream(
        model=model_of(paced), messages=[say("short")]
    ) as stream:
        answer = stream.get_final_completion()

    assert answer.choices[0].message.content == answer_text(paced, answer.id)
    assert answer.choices[0].finish_reason == "stop"


def test_a_client_that_closes_its_stream_cancels_its_job(
    paced: Service, paced_openai: OpenAI
) -> None:
    stream = paced_openai.chat.completions.create(
        model=model_of(paced),
        messages=[say(LONG)],
        max_tokens=1000,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    first = next(stream)
    stream.close()

    wait_until(lambda: job_of(paced, first.id).state == "cancelled", 20)
    assert 0 < job_of(paced, first.id).completion_tokens < 100  # four seconds


def test_a_client_that_stops_waiting_cancels_its_job(paced: Service) -> None:
    key = paced.make_key()
    with connect(paced, key, timeout=0.7) as client, pytest.raises(APIError):
        client.chat.completions.create(
            model=model_of(paced),
            messages=[say(LONG)],
            max_tokens=1000,
            extra_body={"ignore_eos": True},
        )

    def states() -> list[str]:
        """Return the state of the job; there is none before the API has stored it."""
        jobs = paced.call("GET", "/api/llm/jobs?limit=1", headers={"x-api-key": key["secret"]})
        return [job["status"] for job in jobs.json()["data"]]

    wait_until(lambda: states() == ["cancelled"], 20)


@pytest.mark.parametrize("stream", [True, False])
def test_a_job_that_somebody_else_cancels_is_an_error(paced: Service, stream: bool) -> None:
    key = paced.make_key()
    headers = {"x-api-key": key["secret"]}

    async def ask() -> Any:
        async with AsyncOpenAI(
            base_url=f"{paced.url}/v1", api_key=key["secret"], timeout=CALL_SECONDS
        ) as client:
            answer: Any = await client.chat.completions.create(
                model=model_of(paced), messages=[say(LONG)], max_tokens=300, stream=stream
            )
            return [chunk async for chunk in answer] if stream else answer

    def running() -> list[str]:
        jobs = paced.call("GET", "/api/llm/jobs", headers=headers).json()["data"]
        return [job["id"] for job in jobs if job["status"] == "running"]

    def cancel() -> None:
        wait_until(running, 20)
        paced.call("DELETE", f"/api/llm/jobs/{running()[0]}", headers=headers)

    async def ask_and_cancel() -> None:
        asking = asyncio.create_task(ask())
        await asyncio.to_thread(cancel)
        await asking

    with pytest.raises(APIError, match="was cancelled") as caught:
        asyncio.run(ask_and_cancel())

    assert caught.value.code == "job_cancelled"
    if not stream:
        assert isinstance(caught.value, APIStatusError)
        assert caught.value.status_code == 409


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(
    ("path", "prompt"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "añadir 🎉🎉 世界"}]}),
        ("/v1/completions", {"prompt": "añadir 🎉🎉 世界"}),
    ],
)
@pytest.mark.parametrize("service_name", ["paced", "service"])
def test_a_stream_is_resumed_after_any_of_its_events(
    request: pytest.FixtureRequest, service_name: str, path: str, prompt: dict[str, Any], n: int
) -> None:
    """A client knows the id of the last event that had one; the rest comes by the job's stream."""
    service: Service = request.getfixturevalue(service_name)
    headers = {"x-api-key": service.make_key()["secret"]}
    body = {**prompt, "n": n, "max_tokens": 12, "stream": True}
    answer = service.call("POST", path, json=body, headers=headers, stream=True)
    received = list(events(answer))
    job_id = received[0].json["id"].split("-")[1]
    wholes = [answer_text(service, received[0].json["id"], index) for index in range(n)]

    for cut in range(len(received)):
        known = {"Last-Event-ID": received[cut].id} if received[cut].id else {}
        rest = service.call(
            "GET",
            f"/api/llm/jobs/gen_{job_id}/stream",
            headers={**headers, **known},
            stream=True,
        )
        last = list(events(rest))
        for index, whole in enumerate(wholes):
            begun = "".join(_added(event, index) for event in received[: cut + 1])
            assert begun + "".join(_added(event, index) for event in last) == whole


def test_a_stream_that_is_cut_after_its_first_event_is_resumed_while_it_runs(
    paced: Service,
) -> None:
    headers = {"x-api-key": paced.make_key()["secret"]}
    body = {"messages": [say(LONG)], "max_tokens": 20, "stream": True}
    keyed = {**headers, "Idempotency-Key": "cut"}
    answer = paced.call("POST", "/v1/chat/completions", json=body, headers=keyed, stream=True)
    first = next(events(answer))
    answer.close()

    known = {"Last-Event-ID": first.id} if first.id else {}
    job_id = first.json["id"].split("-")[1]
    address = f"/api/llm/jobs/gen_{job_id}/stream"
    rest = paced.call("GET", address, headers={**headers, **known}, stream=True)

    text = "".join(_added(event) for event in events(rest))
    assert text == answer_text(paced, first.json["id"])


def _added(event: Event, index: int = 0) -> str:
    """Return what an event of any face adds to the text of one choice."""
    if event.data == "[DONE]":
        return ""
    shown = [choice for choice in event.json["choices"] if choice["index"] == index]
    return "".join(one.get("text") or one.get("delta", {}).get("content") or "" for one in shown)
