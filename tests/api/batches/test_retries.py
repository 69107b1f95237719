"""Retries of a batch: which lines they run, with which options, and for which keys."""

from __future__ import annotations

import pytest

from models.batches.batch import Batch
from models.database.base import SessionFactory
from tests.support.http.accounts import register
from tests.support.http.batch_files import PATH, batch_uuid, ended_batch, jobs_of, made, succeed
from tests.support.http.errors import error_of
from tests.support.service import Service


@pytest.fixture(scope="module")
def service(service_without_workers: Service) -> Service:
    """An API without workers: the tests end the batch lines."""
    return service_without_workers


def test_a_retry_runs_the_lines_that_did_not_succeed(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    old = ended_batch(service, headers, rows, "?name=night&completionWindow=2h")

    response = service.call("POST", f"{PATH}/{old['id']}/retry", headers=headers)

    assert response.status_code == 201, response.text
    new = response.json()
    assert response.headers["Location"] == f"{PATH}/{new['id']}"
    assert (new["retryOf"], new["name"], new["total"]) == (old["id"], "night", 3)
    lines, before = jobs_of(rows, new), jobs_of(rows, old)
    assert [(job.line, job.custom_id) for job in lines] == [(2, "c1"), (3, "c2"), (4, "c3")]
    assert [job.request for job in lines] == [job.request for job in before[1:4]]
    assert all(job.prompt_tokens > 0 and job.is_held for job in lines)
    with rows() as session:
        row = session.get_one(Batch, batch_uuid(new))
    assert (row.expires_at - row.created_at).total_seconds() == 2 * 3600


def test_a_retry_may_change_options(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    old = ended_batch(service, headers, rows)
    path = f"{PATH}/{old['id']}/retry"
    body = {"name": None, "completionWindow": "1h", "metadata": {"try": "2"}}

    response = service.call("POST", path, headers=headers, json=body)

    assert (response.json()["name"], response.json()["metadata"]) == (None, {"try": "2"})
    refused = service.call("POST", path, headers=headers, json={"onError": "skip"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "onError")


def test_a_retry_with_an_idempotency_key_is_made_once(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    path = f"{PATH}/{ended_batch(service, headers, rows)['id']}/retry"
    named = {**headers, "Idempotency-Key": "again"}

    first = service.call("POST", path, headers=named)
    second = service.call("POST", path, headers=named)
    other = service.call("POST", path, headers=named, json={"name": "x"})

    assert (first.status_code, second.status_code, other.status_code) == (201, 200, 422)
    assert first.json()["id"] == second.json()["id"]


def test_a_retry_without_failed_lines_is_refused(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    batch = made(service, headers, {"prompt": "x"}, {"prompt": ""}, query="?onError=skip")
    path = f"{PATH}/{batch['id']}/retry"

    early = service.call("POST", path, headers=headers)
    succeed(rows, jobs_of(rows, batch)[:1])
    late = service.call("POST", path, headers=headers)

    assert (early.status_code, error_of(early)) == (409, "batch_not_finished")
    assert (late.status_code, error_of(late)) == (409, "nothing_to_retry")


def test_the_owner_of_an_ended_key_retries_with_another(
    service: Service, rows: SessionFactory
) -> None:
    account = register(service)
    old_key, new_key = account.make_key(), account.make_key()
    path = f"{PATH}/{ended_batch(service, {'x-api-key': old_key['secret']}, rows)['id']}/retry"
    account.call("DELETE", f"/api/keys/{old_key['id']}")

    by_token = account.call("POST", path)
    both = {**account.headers, "x-api-key-id": new_key["id"]}
    by_both = service.call("POST", path, headers=both)
    by_key = service.call("POST", path, headers={"x-api-key": new_key["secret"]})

    assert (by_token.status_code, error_of(by_token)) == (403, "forbidden")
    assert (by_both.status_code, by_both.json()["keyId"]) == (201, new_key["id"])
    assert (by_key.status_code, by_key.json()["keyId"]) == (201, new_key["id"])
