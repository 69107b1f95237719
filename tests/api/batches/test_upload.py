"""Uploads: which files are accepted or rejected, the faults in the response, and leftovers."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import requests
from sqlalchemy import func, select

from core.config.settings import Settings
from core.ids import Prefix, parse_id
from models.batches.batch import Batch
from models.database.base import SessionFactory
from models.jobs.job import Job, JobState
from tests.support.http.batch_files import (
    JSONL,
    PATH,
    batch_uuid,
    jobs_of,
    jsonl,
    made,
    requests_of,
    results,
    send,
)
from tests.support.http.errors import error_of
from tests.support.service import Service

SMALL = {"max_batch_bytes": 300_000, "max_body_bytes": 20_000, "max_batch_lines": 200}


@pytest.fixture(scope="module")
def service(
    base_settings: Settings, _redis: redis.Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """An API without workers: uploaded batches stay as they are."""
    with Service.started(
        base_settings, tmp_path_factory.mktemp("service"), workers=0, **SMALL
    ) as running:
        yield running


@pytest.fixture(scope="module")
def rows(service: Service) -> SessionFactory:
    return service.sessions


@pytest.fixture
def headers(service: Service) -> dict[str, str]:
    return {"x-api-key": service.make_key()["secret"]}


def counts(rows: SessionFactory) -> tuple[int, int]:
    """Return the numbers of batches and jobs."""
    with rows() as session:
        found = [session.scalar(select(func.count()).select_from(t)) or 0 for t in (Batch, Job)]
    return found[0], found[1]


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


def test_a_form_takes_the_same_file_with_its_options_as_fields(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    file = jsonl(*requests_of(3))

    response = service.call(
        "POST",
        PATH,
        headers=headers,
        files={"file": ("lines.jsonl", file)},
        data={"name": "form", "on_error": "skip", "metadata": '{"a": "b"}'},
    )

    assert response.status_code == 201, response.text
    batch = response.json()
    assert (batch["name"], batch["onError"], batch["metadata"]) == ("form", "skip", {"a": "b"})
    assert [job.custom_id for job in jobs_of(rows, batch)] == ["c0", "c1", "c2"]


@pytest.mark.parametrize(
    "form",
    [
        {"files": {"other": ("x", b"{}")}},
        {"files": {"file": ("x", b"{}"), "more": ("y", b"{}")}},
        {"files": [("file", ("x", b"{}")), ("file", ("y", b"{}"))]},
        {"files": {"file": ("x", b"{}")}, "data": {"color": "red"}},
        {"files": {"nothing": (None, "just a field")}},
        {"data": b"--x\r\nbroken", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {"data": b"", "headers": {"Content-Type": "multipart/form-data"}},
    ],
)
def test_a_form_without_one_file_or_with_an_unknown_field_is_refused(
    service: Service, headers: dict[str, str], rows: SessionFactory, form: dict[str, Any]
) -> None:
    before = counts(rows)

    own = form.get("headers", {})
    response = service.call("POST", PATH, **{**form, "headers": {**headers, **own}})

    assert (response.status_code, error_of(response)) == (400, "invalid_request")
    assert counts(rows) == before


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


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?color=red", "color"),
        ("?name=" + "x" * 201, "name"),
        ("?name=a&name=b", "name"),
        ("?onError=ignore", "onError"),
        ("?completionWindow=59s", "completionWindow"),
        ("?completionWindow=8d", "completionWindow"),
        ("?completionWindow=24", "completionWindow"),
        ("?completionWindow=999999999d", "completionWindow"),
        ("?webhookUrl=http%3A%2F%2F127.0.0.1", "webhookUrl"),
        ("?metadata=%5B%5D", "metadata"),
        ("?metadata=%7B", "metadata"),
        ("?metadata=%7B%22a%22%3A1%7D", "metadata.a"),
    ],
)
def test_a_wrong_option_is_named(
    service: Service, headers: dict[str, str], query: str, param: str
) -> None:
    response = send(service, headers, jsonl({"prompt": "x"}), query)

    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/html", None])
def test_another_type_of_body_is_refused(
    service: Service, headers: dict[str, str], kind: str | None
) -> None:
    given = {**headers, **({"Content-Type": kind} if kind else {})}
    response = service.call("POST", PATH, data=b'{"prompt": "x"}', headers=given)

    assert (response.status_code, error_of(response)) == (415, "unsupported_media_type")
    assert "--data-binary" in response.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-jsonlines"])
def test_the_content_types_that_clients_use_are_accepted(
    service: Service, headers: dict[str, str], kind: str
) -> None:
    given = {**headers, "Content-Type": kind}

    assert service.call("POST", PATH, data=b'{"prompt": "x"}\n', headers=given).status_code == 201


def test_a_compressed_file_is_refused(service: Service, headers: dict[str, str]) -> None:
    packed = gzip.compress(b'{"prompt": "x"}')

    given = {**headers, "Content-Type": "application/jsonl", "Content-Encoding": "gzip"}
    rejected = service.call("POST", PATH, data=packed, headers=given)
    silent = send(service, headers, packed)

    assert (rejected.status_code, rejected.headers["Accept-Encoding"]) == (415, "identity")
    assert silent.status_code == 400
    assert (
        silent.json()["error"]["message"] == "the file is compressed (gzip): send it uncompressed"
    )


def test_a_file_of_openais_format_gets_the_endpoint_to_use(
    service: Service, headers: dict[str, str]
) -> None:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "x"}}

    response = send(service, headers, jsonl(line))

    (fault,) = response.json()["error"]["fields"]
    assert fault["param"] == "line 1"
    assert "POST /v1/batches" in fault["message"]


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("is_form", [False, True])
def test_a_file_that_is_too_large_is_refused(
    service: Service, headers: dict[str, str], is_chunked: bool, is_form: bool
) -> None:
    file = b'{"prompt": "x"}\n' * 20_000
    kind = JSONL["Content-Type"]
    if is_form:
        prepared = requests.Request("POST", service.url, files={"file": ("x", file)}).prepare()
        assert isinstance(prepared.body, bytes)
        file, kind = prepared.body, prepared.headers["Content-Type"]

    response = service.call(
        "POST",
        PATH,
        data=iter([file[: 2**17], file[2**17 :]]) if is_chunked else file,
        headers={**headers, "Content-Type": kind},
    )

    assert (response.status_code, error_of(response)) == (413, "payload_too_large")


def test_the_size_limit_of_other_bodies_does_not_apply_to_a_file(
    service: Service, headers: dict[str, str]
) -> None:
    lines = [{"prompt": "x" * 5000}] * 20

    assert made(service, headers, *lines)["total"] == 20


def test_too_many_lines_are_refused(service: Service, headers: dict[str, str]) -> None:
    for file in (jsonl(*requests_of(201)), b"\n" * 2001 + jsonl({"prompt": "x"})):
        response = send(service, headers, file)

        assert response.status_code == 400
        assert response.json()["error"]["message"] == "a file may have at most 200 lines"


def test_a_repeated_idempotency_key_returns_the_same_batch(
    service: Service, headers: dict[str, str]
) -> None:
    file, name = jsonl(*requests_of(2)), {"Idempotency-Key": "once"}

    first = send(service, headers, file, **name)
    repeated = send(service, headers, file, **name)
    in_form = service.call("POST", PATH, headers={**headers, **name}, files={"file": ("x", file)})

    assert (first.status_code, repeated.status_code, in_form.status_code) == (201, 200, 200)
    assert first.json()["id"] == repeated.json()["id"] == in_form.json()["id"]
    assert repeated.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    for other in (
        send(service, headers, file + b"\n", **name),
        send(service, headers, file, "?name=x", **name),
    ):
        assert (other.status_code, error_of(other)) == (422, "idempotency_conflict")
        assert other.headers["x-should-retry"] == "false"
    assert send(service, headers, file, **{"Idempotency-Key": "a b"}).status_code == 400


def test_concurrent_requests_with_one_idempotency_key_make_one_batch(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    before = counts(rows)[0]
    file = jsonl(*requests_of(100))

    responses = at_once(
        6,
        lambda _: with_retries(lambda: send(service, headers, file, **{"Idempotency-Key": "race"})),
    )

    assert {response.status_code for response in responses} <= {200, 201}
    assert len({response.json()["id"] for response in responses}) == 1
    assert counts(rows)[0] == before + 1


def test_the_limit_of_open_batches_is_exact_for_concurrent_uploads(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    before = counts(rows)[0]
    most = service.settings.max_open_batches

    responses = at_once(
        most + 4, lambda _: with_retries(lambda: send(service, headers, jsonl(*requests_of(20))))
    )

    refused = [response for response in responses if response.status_code == 429]
    assert sorted({response.status_code for response in responses}) == [201, 429]
    assert (len(responses) - len(refused), counts(rows)[0] - before) == (most, most)
    assert {error_of(response) for response in refused} == {"too_many_batches"}
    assert int(refused[0].headers["Retry-After"]) >= 1


def test_a_batch_whose_prompts_exceed_the_quota_is_refused(
    service: Service, rows: SessionFactory
) -> None:
    key = service.make_key(monthlyTokenLimit=2000)
    headers = {"x-api-key": key["secret"]}
    before = counts(rows)

    refused = send(service, headers, jsonl(*[{"prompt": "word " * 100, "maxTokens": 1}] * 40))

    assert (refused.status_code, error_of(refused)) == (429, "monthly_quota_exceeded")
    assert refused.headers["x-should-retry"] == "false"
    assert counts(rows) == before
    assert made(service, headers, {"prompt": "x", "maxTokens": 8000})["total"] == 1


def test_a_batch_is_not_charged_to_the_limits_per_minute(service: Service) -> None:
    key = service.make_key(rateLimit=1, tokenLimit=10)
    headers = {"x-api-key": key["secret"]}

    made(service, headers, *requests_of(20))

    limits = service.call("GET", "/api/limits", headers=headers).json()
    assert (limits["rateLimit"]["used"], limits["tokenLimit"]["used"]) == (0, 0)
    assert limits["maxInFlight"]["used"] == 0


def at_once(count: int, call: Any) -> list[requests.Response]:
    """Return the responses to calls that begin together."""
    responses: list[requests.Response] = []
    threads = [
        threading.Thread(target=lambda i=i: responses.append(call(i)))  # type: ignore[misc]
        for i in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(responses) == count
    return responses


def with_retries(call: Any) -> requests.Response:
    """Retry until an upload slot is free: a user has few."""
    deadline = time.monotonic() + 60
    while True:
        response: requests.Response = call()
        if response.status_code < 400 or error_of(response) not in (
            "overloaded",
            "too_many_uploads",
        ):
            return response
        assert int(response.headers["Retry-After"]) >= 1
        assert time.monotonic() < deadline
        time.sleep(0.05)
