"""Requests that upload a file: their form, options, type, size, idempotency keys and limits."""

from __future__ import annotations

import gzip
import threading
import time
from typing import Any

import pytest
import requests

from models.database.base import SessionFactory
from tests.support.http.batch_files import (
    JSONL,
    PATH,
    counts,
    jobs_of,
    jsonl,
    made,
    requests_of,
    send,
)
from tests.support.http.errors import error_of
from tests.support.service import Service


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


def test_a_file_may_be_sent_with_a_jwt_and_a_key_id(service: Service) -> None:
    key = service.make_key()
    headers = {**service.sign_in_admin(), "x-api-key-id": key["id"]}

    response = send(service, headers, jsonl({"prompt": "x"}))

    assert (response.status_code, response.json()["keyId"]) == (201, key["id"])


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
