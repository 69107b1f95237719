"""A file with faults is a failed batch that names the lines and their fields."""

from __future__ import annotations

from openai import OpenAI

from tests.support.http.openai_batches import Submit, chat, completion
from tests.support.service import Service


def test_errors_of_a_line_name_its_fields_or_the_endpoint_of_its_format(
    submit: Submit,
) -> None:
    batch = submit(
        chat("a", "word " * 9000, max_tokens=1),
        completion("b"),
        {"prompt": "x"},
    )

    assert batch.errors is not None
    reported = {fault.line: fault for fault in batch.errors.data or []}
    assert reported[1].param == "body.messages"
    assert reported[2].param == "url"
    assert reported[3].param is None
    assert "POST /api/llm/batches" in reported[3].message


def test_a_faulty_file_is_a_failed_batch_that_names_the_lines(
    openai: OpenAI, submit: Submit, service: Service
) -> None:
    batch = submit(
        chat("a"),
        b"{",
        chat("a"),
        chat("b", max_tokens=0),
        chat("c", stream=True),
        completion("d"),
        {**chat("e"), "method": "GET"},
        chat("f", model="gpt-4"),
        chat("g", tools=[{"type": "function"}]),
    )

    assert batch.status == "failed"
    assert batch.failed_at is not None
    assert batch.errors is not None
    reported = [(fault.line, fault.param) for fault in batch.errors.data or []]
    assert sorted(reported) == [
        (2, None),
        (3, "custom_id"),
        (4, "body.max_tokens"),
        (5, "body.stream"),
        (6, "url"),
        (7, "method"),
        (8, "body.model"),
        (9, "body.tools"),
    ]
    messages = {fault.line: fault.message for fault in batch.errors.data or []}
    assert messages[4] == "body.max_tokens must be at least 1"
    assert messages[6] == "url must be /v1/chat/completions, the batch's endpoint"
    assert openai.batches.retrieve(batch.id) == batch
    assert openai.batches.cancel(batch.id) == batch
    assert openai.batches.list(limit=1).data == [batch]


def test_a_file_without_lines_is_a_failed_batch(openai: OpenAI, submit: Submit) -> None:
    batch = submit(b"", b"")

    assert batch.status == "failed"
    assert batch.errors is not None and batch.errors.data is not None
    assert batch.errors.data[0].message == "the file has no lines"
