"""Responses for jobs and batches whose texts or rows retention has deleted."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from models.batches.reads import find_batch
from models.database.base import SessionFactory
from models.pages.batches import BatchFilter, list_batch_page, read_listed_batches
from tests.support.http.batch_files import PATH, batch_uuid, made, requests_of, results
from tests.support.polling import wait_until
from tests.support.service import Service
from tests.support.worker.retention import enforce

JOBS = "/api/llm/jobs"
BODY = {"prompt": "a secret question", "maxTokens": 4, "metadata": {"team": "red"}}


@pytest.fixture(scope="module")
def rows(service: Service) -> SessionFactory:
    return service.sessions


@pytest.fixture
def headers(service: Service) -> dict[str, str]:
    return {"x-api-key": service.make_key()["secret"]}


def age(rows: SessionFactory) -> None:
    """Move all ends to 40 days ago."""
    with rows.begin() as session:
        for table in ("jobs", "batches"):
            session.execute(
                text(f"update {table} set finished_at = finished_at - interval '40 days'")
            )


def test_a_job_says_that_its_texts_are_gone_and_then_does_not_exist(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    job = service.call("POST", "/api/llm/generate", json=BODY, headers=headers).json()["id"]
    before = service.call("GET", f"{JOBS}/{job}", headers=headers).json()
    age(rows)

    enforce(rows, service.settings, prompts=30)

    serialized = service.call("GET", f"{JOBS}/{job}", headers=headers)
    listed = service.call("GET", JOBS, headers=headers).json()["data"]
    stream = service.call("GET", f"{JOBS}/{job}/stream", headers=headers)
    assert "textsDeletedAt" not in before
    assert "result" in before
    assert serialized.json()["textsDeletedAt"] == listed[0]["textsDeletedAt"]
    assert "result" not in serialized.json()
    assert serialized.json()["usage"] == before["usage"]
    assert serialized.json()["metadata"] == {"team": "red"}
    assert stream.status_code == 404

    enforce(rows, service.settings, jobs=30)

    gone = service.call("GET", f"{JOBS}/{job}", headers=headers)
    used = service.call("GET", "/api/usage", headers=headers).json()
    assert gone.status_code == 404
    assert service.call("GET", JOBS, headers=headers).json()["data"] == []
    assert [row["requests"] for row in used["data"]] == [1]


def test_a_batch_says_that_its_texts_are_gone_and_then_does_not_exist(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    batch = made(service, headers, *requests_of(3))

    def read_batch() -> dict[str, Any]:
        return dict(service.call("GET", f"{PATH}/{batch['id']}", headers=headers).json())

    wait_until(lambda: read_batch()["status"] == "completed", 60, service.logs)
    with rows.begin() as session:
        values = {"id": batch_uuid(batch)}
        session.execute(
            text("update jobs set state = 'failed' where batch_id = :id and line = 3"), values
        )
        session.execute(text("update batches set succeeded = 2, failed = 1 where id = :id"), values)
    age(rows)

    enforce(rows, service.settings, prompts=30)

    lines = results(service, headers, batch)
    retry = service.call("POST", f"{PATH}/{batch['id']}/retry", headers=headers)
    assert read_batch()["textsDeletedAt"]
    assert [line["status"] for line in lines] == ["succeeded", "succeeded", "failed"]
    assert [line["result"] for line in lines] == [None] * 3
    assert [line["error"] and line["error"]["code"] for line in lines] == [
        "texts_deleted",
        "texts_deleted",
        None,
    ]
    assert retry.status_code == 409
    assert retry.json()["error"]["code"] == "nothing_to_retry"

    with rows.begin() as session:
        session.execute(text("update batches set lines_deleted_at = now()"))
    deleting = service.call("GET", f"{PATH}/{batch['id']}/results", headers=headers)
    listed = service.call("GET", PATH, headers=headers).json()["data"]
    with rows() as session:
        batch_id = batch_uuid(batch)
        assert find_batch(session, batch_id) is None
        assert read_listed_batches(session, [batch_id], user_id=None) == []
        assert list_batch_page(session, BatchFilter(), limit=9).rows == []
    enforce(rows, service.settings, jobs=30)

    assert (deleting.status_code, listed) == (404, [])
    assert service.call("GET", f"{PATH}/{batch['id']}", headers=headers).status_code == 404
    assert service.call("GET", PATH, headers=headers).json()["data"] == []
