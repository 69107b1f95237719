"""Files with the official client of OpenAI's API: stored, listed, deleted and expired."""

from __future__ import annotations

from typing import Any

import openai as sdk
import pytest
from openai import OpenAI
from sqlalchemy import func, select, text

from core.ids import Prefix, parse_id
from models.database.base import SessionFactory, utc_now
from models.files.file import File, FilePiece
from models.files.store import PIECE_BYTES
from tests.support.http.openai_batches import BATCH_SECONDS, Submit, chat, finished
from tests.support.polling import wait_until


def test_files_are_stored_unchanged_and_listed(openai: OpenAI) -> None:
    data = b"".join(b"%d %s\n" % (i, b"x" * 1000) for i in range(2500))
    assert len(data) > 2 * PIECE_BYTES

    file = openai.files.create(file=("mine.jsonl", data), purpose="batch")
    other = openai.files.create(file=("other.jsonl", b"{}\n"), purpose="batch")

    assert (file.filename, file.bytes, file.purpose) == ("mine.jsonl", len(data), "batch")
    assert openai.files.content(file.id).content == data
    assert openai.files.retrieve(file.id) == file
    pages = openai.files.list(limit=1)
    assert [found.id for found, _ in zip(pages, range(2), strict=False)] == [other.id, file.id]
    oldest = openai.files.list(order="asc", after=file.id, purpose="batch").data
    assert [found.id for found in oldest] == [other.id]
    assert openai.files.list(purpose="batch_output").data == []


def test_a_deleted_file_is_not_found_at_once_and_its_pieces_are_deleted_soon(
    openai: OpenAI, rows: SessionFactory
) -> None:
    file = openai.files.create(file=("mine.jsonl", b"a" * 3 * PIECE_BYTES), purpose="batch")

    deleted = openai.files.delete(file.id)

    assert deleted.deleted
    for call in (openai.files.retrieve, openai.files.content, openai.files.delete):
        with pytest.raises(sdk.NotFoundError):
            call(file.id)
    wanted = parse_id(Prefix.FILE, file.id)

    def is_gone() -> bool:
        with rows() as session:
            counts = [
                session.scalar(select(func.count()).where(FilePiece.file_id == wanted)),
                session.scalar(select(func.count()).where(File.id == wanted)),
            ]
        return counts == [0, 0]

    wait_until(is_gone, BATCH_SECONDS)


def test_a_file_expires_at_the_requested_time(openai: OpenAI, rows: SessionFactory) -> None:
    file = openai.files.create(
        file=("mine.jsonl", b"{}\n"),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 7200},
    )
    usual = openai.files.create(file=("mine.jsonl", b"{}\n"), purpose="batch")

    assert file.expires_at == file.created_at + 7200
    assert usual.expires_at == usual.created_at + 30 * 24 * 3600
    with rows.begin() as session:
        session.execute(
            text("update files set expires_at = :now where id = :id"),
            {"now": utc_now(), "id": parse_id(Prefix.FILE, file.id)},
        )
    with pytest.raises(sdk.NotFoundError):
        openai.files.retrieve(file.id)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"purpose": "fine-tune"}, "purpose"),
        ({"expires_after": {"anchor": "created_at", "seconds": 60}}, "expires_after[seconds]"),
        ({"expires_after": {"anchor": "now", "seconds": 3600}}, "expires_after[anchor]"),
        ({"file": ("empty.jsonl", b"")}, "file"),
        ({"extra_body": {"colour": "red"}}, "colour"),
    ],
)
def test_a_file_that_cannot_be_stored_is_refused(
    openai: OpenAI, options: dict[str, Any], param: str
) -> None:
    given: Any = {"file": ("mine.jsonl", b"{}\n"), "purpose": "batch"}

    with pytest.raises(sdk.BadRequestError) as caught:
        openai.files.create(**{**given, **options})

    assert caught.value.param == param


def test_the_files_of_results_are_described_and_cannot_be_deleted(
    openai: OpenAI, submit: Submit
) -> None:
    batch = finished(openai, submit(chat("a"), chat("b")))
    assert batch.output_file_id is not None

    file = openai.files.retrieve(batch.output_file_id)

    assert file.purpose == "batch_output"
    assert file.bytes == len(openai.files.content(file.id).content)
    with pytest.raises(sdk.BadRequestError):
        openai.files.delete(file.id)
    with pytest.raises(sdk.NotFoundError):
        openai.files.content(file.id.replace("output", "error"))
