"""Lines of an uploaded file: the jobs that are made of them, and the faults in the response."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from core.ids import Prefix, parse_id
from models.batches.batch import Batch
from models.database.base import SessionFactory
from models.jobs.job import Job, JobState
from tests.support.http.batch_files import (
    PATH,
    batch_uuid,
    counts,
    jobs_of,
    jsonl,
    made,
    requests_of,
    results,
    send,
)
from tests.support.service import Service


def faults(response: requests.Response) -> dict[str, str]:
    assert response.status_code == 400, response.text
    return {one["param"]: one["message"] for one in response.json()["error"]["fields"]}


def test_each_line_of_a_file_becomes_a_held_job(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    key = service.make_key()
    response = send(
        service,
        {"x-api-key": key["secret"], "x-request-id": "req-of-the-upload"},
        jsonl(
            {"custom_id": "a", "prompt": "say a", "maxTokens": 8, "temperature": 0},
            {"customId": "b", "messages": [{"role": "user", "content": "say b"}]},
            {"prompt": "say c", "promptMode": "raw"},
        ),
        "?name=nightly&completionWindow=90m&metadata=%7B%22team%22%3A%22x%22%7D",
    )

    assert response.status_code == 201, response.text
    batch = response.json()
    assert response.headers["Location"] == f"{PATH}/{batch['id']}"
    assert (batch["name"], batch["metadata"]) == ("nightly", {"team": "x"})
    assert (batch["status"], batch["total"], batch["counts"]["queued"]) == ("running", 3, 3)
    jobs = jobs_of(rows, batch)
    assert [(job.line, job.custom_id) for job in jobs] == [(1, "a"), (2, "b"), (3, None)]
    assert [job.id for job in jobs] == sorted(job.id for job in jobs)
    assert jobs[0].request == {"prompt": "say a", "maxTokens": 8, "temperature": 0}
    for job in jobs:
        assert (job.state, job.queue, job.is_held, job.charged_tokens) == (
            "queued",
            "bulk",
            True,
            0,
        )
        assert (job.request_id, job.expires_at) == ("req-of-the-upload", None)
        assert job.prompt_tokens > 0
    assert jobs[2].prompt_tokens < jobs[0].prompt_tokens, "raw prompts have no template"
    with rows() as session:
        row = session.get_one(Batch, batch_uuid(batch))
    assert (row.expires_at - row.created_at).total_seconds() == 90 * 60


def test_prompts_are_counted_as_those_of_single_requests(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    prompt = {"prompt": "héllo 🎉 " * 50, "maxTokens": 4}
    alone = service.call("POST", "/api/llm/jobs", json=prompt, headers=headers).json()["id"]

    batch = made(service, headers, prompt)

    with rows() as session:
        job_id = parse_id(Prefix.JOB, alone)
        assert job_id is not None
        assert jobs_of(rows, batch)[0].prompt_tokens == session.get_one(Job, job_id).prompt_tokens


def test_physical_lines_are_numbered_and_blank_ones_skipped(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    one = b'{"prompt": "x"}'
    file = b"\xef\xbb\xbf" + one + b"\r\n\r\n  \t\n" + one + b"\n\n" + one

    response = send(service, headers, file)

    assert response.status_code == 201, response.text
    assert [job.line for job in jobs_of(rows, response.json())] == [1, 4, 6]


BAD_LINES: list[tuple[Any, str, str]] = [
    (b"{", "", "it is not valid JSON at column 2: the text ends too early"),
    (b"[1]", "", "it must be a JSON object"),
    (b'{"prompt": "\xff"}', "", "it is not valid UTF-8 at column 13: byte 0xFF; send it as UTF-8"),
    ({"prompt": "a\x00b"}, "prompt", "prompt must not contain NUL characters"),
    ({"prompt": "x", "maxTokens": 0}, "maxTokens", "maxTokens must be at least 1"),
    ({"prompt": "x", "maxTokens": 8193}, "maxTokens", "maxTokens must be at most 8192"),
    ({"prompt": "x", "n": 8, "maxTokens": 8000, "logprobs": 20}, "logprobs", "n times maxTokens"),
    ({"prompt": "x", "model": "gpt-4"}, "model", "this service has the model"),
    ({"prompt": "x " * 9000}, "prompt", "this model's maximum context length is"),
    ({"prompt": "x", "color": "red"}, "color", "color is not a known field"),
    ({"prompt": "x", "b\x00d": 1}, "b�d", "b�d is not a known field"),
    ({}, "messages", "give exactly one of `prompt` and `messages`"),
    ({"messages": [{"role": "nobody", "content": "x"}]}, "messages.0.role", "messages.0.role"),
    ({"prompt": "x", "stream": True}, "stream", "stream is not allowed in a batch line: read"),
    ({"prompt": "x", "webhookUrl": "https://a.b"}, "webhookUrl", "webhookUrl is not allowed in a"),
    ({"prompt": "x", "cache": True}, "cache", "cache is not allowed in a batch line"),
    (
        {"prompt": "x", "ttlSeconds": 5},
        "ttlSeconds",
        "ttlSeconds is not allowed in a batch line: set",
    ),
    ({"prompt": "x", "custom_id": ""}, "custom_id", "custom_id must not be empty"),
    ({"prompt": "x", "custom_id": "y" * 513}, "custom_id", "custom_id must have at most 512"),
    ({"prompt": "x", "custom_id": 7}, "custom_id", "custom_id must be a string"),
    ({"prompt": "x", "custom_id": "first"}, "custom_id", "custom_id was already used in line 1"),
    (b'{"prompt": "' + b"x" * 20_000 + b'"}', "", "it has more than 20000 bytes"),
]


@pytest.fixture(scope="module")
def fault_messages(service: Service) -> dict[str, str]:
    """All faults of a file with one valid line and all kinds of invalid lines."""
    headers = {"x-api-key": service.make_key()["secret"]}
    file = jsonl({"prompt": "good", "custom_id": "first"}, *(line for line, _, _ in BAD_LINES))
    response = send(service, headers, file)
    error = response.json()["error"]
    total = len(BAD_LINES) + 1
    assert (error["code"], error["param"]) == ("invalid_request", "file")
    assert error["message"] == f"{len(BAD_LINES)} of {total} lines are not valid"
    return faults(response)


@pytest.mark.parametrize("place", range(len(BAD_LINES)))
def test_an_invalid_line_is_reported_with_its_number_and_field(
    fault_messages: dict[str, str], place: int
) -> None:
    _, param, message = BAD_LINES[place]
    line = f"line {place + 2}"

    found = {name: text for name, text in fault_messages.items() if name.partition(".")[0] == line}

    assert list(found) == [f"{line}.{param}" if param else line]
    assert found.popitem()[1].startswith(f"{line}: {message}")


def test_only_the_first_hundred_faults_are_reported(
    service: Service, headers: dict[str, str]
) -> None:
    response = send(service, headers, jsonl(*[{"prompt": ""}] * 150))

    assert response.json()["error"]["message"] == "150 of 150 lines are not valid"
    assert len(faults(response)) == 100


def test_a_file_with_an_invalid_line_creates_nothing(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    before = counts(rows)

    response = send(service, headers, jsonl(*requests_of(3), {"prompt": ""}))

    assert response.status_code == 400
    assert counts(rows) == before


def test_skipped_lines_are_failed_from_the_start(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    file = jsonl(
        {"prompt": "x", "custom_id": "a"},
        {"prompt": "", "custom_id": "b"},
        b"{nothing",
        {"prompt": "x", "custom_id": "a"},
        {"prompt": "x", "b\x00d": 1, "custom_id": "c\x00"},
    )

    response = send(service, headers, file, "?onError=skip")

    assert response.status_code == 201, response.text
    batch = response.json()
    assert (batch["total"], batch["counts"]["queued"], batch["counts"]["failed"]) == (5, 1, 4)
    jobs = jobs_of(rows, batch)
    assert [job.custom_id for job in jobs] == ["a", "b", None, None, None]
    for job in jobs[1:]:
        assert (job.state, job.is_held, job.attempt) == (JobState.FAILED, False, 0)
        assert job.finished_at is not None and job.started_at is None
        assert job.error is not None and job.error["code"] == "invalid_request"
    lines = results(service, headers, batch)
    assert [line["line"] for line in lines] == [2, 3, 4, 5]
    assert lines[0]["error"]["message"] == "prompt must not be empty"
    serialized = service.call("GET", f"/api/llm/jobs/{lines[0]['id']}", headers=headers).json()
    assert (serialized["status"], serialized["batchId"], serialized["line"]) == (
        "failed",
        batch["id"],
        2,
    )
    assert (serialized["customId"], serialized["usage"]["total_tokens"]) == ("b", 0)


@pytest.mark.parametrize("file", [b"", b"\n\r\n  \n", b"\xef\xbb\xbf", b'{"prompt": ""}\n'])
@pytest.mark.parametrize("query", ["", "?onError=skip"])
def test_a_file_without_a_valid_line_is_refused(
    service: Service, headers: dict[str, str], file: bytes, query: str
) -> None:
    response = send(service, headers, file, query)

    assert (response.status_code, response.json()["error"]["param"]) == (400, "file")


def test_a_file_of_openais_format_gets_the_endpoint_to_use(
    service: Service, headers: dict[str, str]
) -> None:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "x"}}

    response = send(service, headers, jsonl(line))

    (fault,) = response.json()["error"]["fields"]
    assert fault["param"] == "line 1"
    assert "POST /v1/batches" in fault["message"]
