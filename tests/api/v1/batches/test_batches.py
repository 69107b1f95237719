"""Batches with the official client of OpenAI's API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai as sdk
import pytest
from openai import OpenAI
from sqlalchemy import text

from core.ids import Prefix, parse_id
from models.database.base import SessionFactory
from tests.support.http.accounts import register
from tests.support.http.batch_files import jsonl
from tests.support.http.openai_batches import (
    CHAT,
    COMPLETIONS,
    Submit,
    chat,
    completion,
    finished,
    lines_of,
)
from tests.support.http.openai_client import connect, model_of
from tests.support.service import Service


@pytest.fixture
def stranger(service: Service) -> Iterator[OpenAI]:
    """The client of another user."""
    with connect(service, register(service).make_key()) as client:
        yield client


def test_the_results_of_a_file_of_chats_are_in_its_order(
    openai: OpenAI, service: Service, submit: Submit
) -> None:
    model = model_of(service)
    lines = [chat(f"c{i}", f"say {i}", model=model) for i in range(20)]

    made = submit(*lines, metadata={"run": "nightly"})
    batch = finished(openai, made)

    assert made.status in ("in_progress", "completed")
    assert made.errors is None
    assert batch.status == "completed"
    assert batch.metadata == {"run": "nightly"}
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 20, "completed": 20, "failed": 0}
    assert batch.error_file_id is None
    results = lines_of(openai, batch.output_file_id)
    assert [result["custom_id"] for result in results] == [f"c{i}" for i in range(20)]
    first = results[0]
    assert first["error"] is None
    assert first["response"]["status_code"] == 200
    assert first["response"]["body"]["object"] == "chat.completion"
    assert first["response"]["body"]["choices"][0]["message"]["content"]
    assert batch.usage is not None
    used = [result["response"]["body"]["usage"] for result in results]
    assert batch.usage.input_tokens == sum(usage["prompt_tokens"] for usage in used)
    assert batch.usage.output_tokens == sum(usage["completion_tokens"] for usage in used)


def test_a_completion_of_a_batch_is_the_same_as_of_a_single_call(
    openai: OpenAI, service: Service, submit: Submit
) -> None:
    alone = openai.completions.create(model=model_of(service), prompt="one two", seed=1)

    batch = finished(openai, submit(completion("a", seed=1), endpoint=COMPLETIONS))

    (result,) = lines_of(openai, batch.output_file_id)
    body = result["response"]["body"]
    assert body["object"] == "text_completion"
    assert body["choices"][0]["text"] == alone.choices[0].text
    assert body["usage"]["completion_tokens"] == alone.usage.completion_tokens  # type: ignore[union-attr]


def test_a_chat_without_a_maximum_gets_the_rest_of_the_context(
    openai: OpenAI, submit: Submit
) -> None:
    line = chat("a", "a few words", max_tokens=None)

    batch = finished(openai, submit(line))

    (result,) = lines_of(openai, batch.output_file_id)
    assert result["response"]["body"]["choices"][0]["finish_reason"] in ("stop", "length")


def test_a_cancelled_batch_keeps_its_results_and_reports_the_other_lines(
    slow_openai: OpenAI,
) -> None:
    lines = [chat(f"c{i}", "word " * 40, max_tokens=40) for i in range(60)]
    file = slow_openai.files.create(file=("in.jsonl", jsonl(*lines)), purpose="batch")
    batch = slow_openai.batches.create(
        input_file_id=file.id, endpoint=CHAT, completion_window="24h"
    )

    asked = slow_openai.batches.cancel(batch.id)
    ended = finished(slow_openai, batch)

    assert asked.status in ("cancelling", "cancelled")
    assert asked.output_file_id is None or asked.status == "cancelled"
    assert ended.status == "cancelled"
    assert ended.cancelled_at is not None
    assert ended.request_counts is not None
    errors = lines_of(slow_openai, ended.error_file_id)
    assert len(errors) == ended.request_counts.failed
    assert {line["error"]["code"] for line in errors} == {"batch_cancelled"}
    assert all(line["response"] is None for line in errors)


def test_batches_are_listed_page_by_page(openai: OpenAI, submit: Submit) -> None:
    made = [submit(chat(f"c{i}")) for i in range(2)]
    failed = submit(b"{")
    made.append(failed)

    listed = [batch.id for batch, _ in zip(openai.batches.list(limit=2), range(3), strict=False)]

    assert listed == [batch.id for batch in reversed(made)]
    for batch in made:
        finished(openai, batch)


def test_a_batch_that_retention_deletes_is_not_found(
    openai: OpenAI, submit: Submit, rows: SessionFactory
) -> None:
    batch = finished(openai, submit(chat("a")))
    assert batch.output_file_id is not None
    with rows.begin() as session:
        values = {"id": parse_id(Prefix.BATCH, batch.id)}
        session.execute(text("update batches set lines_deleted_at = now() where id = :id"), values)

    with pytest.raises(sdk.NotFoundError):
        openai.batches.retrieve(batch.id)
    with pytest.raises(sdk.NotFoundError):
        openai.batches.cancel(batch.id)
    with pytest.raises(sdk.NotFoundError):
        openai.files.content(batch.output_file_id)
    assert batch.id not in [listed.id for listed in openai.batches.list()]


def test_a_batch_of_the_native_api_is_not_found(
    openai: OpenAI, service: Service, key: dict[str, Any]
) -> None:
    made = service.call(
        "POST",
        "/api/llm/batches",
        data=b'{"prompt": "a", "maxTokens": 2}\n',
        headers={"Authorization": f"Bearer {key['secret']}", "Content-Type": "application/jsonl"},
    ).json()

    with pytest.raises(sdk.NotFoundError):
        openai.batches.retrieve(made["id"])
    assert made["id"] not in [batch.id for batch in openai.batches.list()]


def test_the_same_idempotency_key_makes_one_batch(openai: OpenAI) -> None:
    file = openai.files.create(file=("in.jsonl", jsonl(chat("a"))), purpose="batch")
    given: Any = {
        "input_file_id": file.id,
        "endpoint": CHAT,
        "completion_window": "24h",
        "extra_headers": {"Idempotency-Key": file.id},
    }

    first, second = (openai.batches.create(**given) for _ in range(2))

    assert first.id == second.id
    with pytest.raises(sdk.UnprocessableEntityError):
        openai.batches.create(**{**given, "metadata": {"a": "b"}})
    openai.files.delete(file.id)
    assert openai.batches.create(**given).id == first.id
    finished(openai, first)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 3600}},
            "output_expires_after",
        ),
        ({"extra_body": {"priority": 1}}, "priority"),
    ],
)
def test_an_unsupported_option_is_refused(
    openai: OpenAI, change: dict[str, Any], param: str
) -> None:
    given: Any = {"input_file_id": "file_x", "endpoint": CHAT, "completion_window": "24h"}

    with pytest.raises(sdk.BadRequestError) as caught:
        openai.batches.create(**{**given, **change})

    assert caught.value.param == param


def test_all_responses_match_the_published_document(
    openai: OpenAI, service: Service, key: dict[str, Any], submit: Submit
) -> None:
    headers = {"Authorization": f"Bearer {key['secret']}"}
    batches = [
        finished(openai, submit(chat("a"))),
        finished(openai, submit(completion("a"), endpoint=COMPLETIONS)),
        submit(b"{"),
    ]
    files = [
        file_id for batch in batches for file_id in (batch.input_file_id, batch.output_file_id)
    ]

    responses = [
        service.call("GET", path, headers=headers) for path in ("/v1/files", "/v1/batches")
    ]
    for batch in batches:
        responses.append(service.call("GET", f"/v1/batches/{batch.id}", headers=headers))
    for file_id in filter(None, files):
        responses.append(service.call("GET", f"/v1/files/{file_id}", headers=headers))
        responses.append(service.call("GET", f"/v1/files/{file_id}/content", headers=headers))
    form = {"files": {"file": ("a.jsonl", b"{}")}, "data": {"purpose": "batch"}}
    responses.append(service.call("POST", "/v1/files", headers=headers, **form))
    responses.append(
        service.call("DELETE", f"/v1/files/{responses[-1].json()['id']}", headers=headers)
    )

    assert {response.status_code for response in responses} == {200}
    assert service.call("POST", "/v1/files", headers=headers, data=b"a").status_code == 415
    refused = service.call("GET", "/v1/batches?after=x", headers=headers)
    assert refused.json()["error"]["param"] == "after"
    refused = service.call("GET", "/v1/files?limit=0", headers=headers)
    assert refused.json()["error"]["param"] == "limit"


def test_files_and_batches_of_others_do_not_exist(
    openai: OpenAI, submit: Submit, stranger: OpenAI
) -> None:
    batch = finished(openai, submit(chat("a")))
    failed = submit(b"{")
    assert batch.output_file_id is not None

    for file_id in (batch.input_file_id, batch.output_file_id):
        for call in (stranger.files.retrieve, stranger.files.content, stranger.files.delete):
            with pytest.raises(sdk.NotFoundError):
                call(file_id)
    for batch_id in (batch.id, failed.id):
        with pytest.raises(sdk.NotFoundError):
            stranger.batches.retrieve(batch_id)
        with pytest.raises(sdk.NotFoundError):
            stranger.batches.cancel(batch_id)
    with pytest.raises(sdk.NotFoundError):
        stranger.batches.create(
            input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h"
        )
    assert stranger.files.list().data == []
    assert stranger.batches.list().data == []
