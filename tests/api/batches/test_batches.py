"""Batches of their owner: progress, lists, results and cancelling."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import redis

from core.config.settings import Settings
from models.batches.batch import Batch
from models.database.base import SessionFactory, utc_now
from models.jobs.job import JobState
from tests.support.http.accounts import register
from tests.support.http.batch_files import (
    PATH,
    batch_uuid,
    end,
    ended_batch,
    jobs_of,
    made,
    release,
    requests_of,
    results,
    succeed,
)
from tests.support.http.errors import error_of
from tests.support.service import Service


@pytest.fixture(scope="module")
def service(
    base_settings: Settings, _redis: redis.Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """An API without workers: the tests end the batch lines."""
    directory = tmp_path_factory.mktemp("service")
    with Service.started(
        base_settings, directory, workers=0, poll_rate_limit=100, registration_attempts_per_email=99
    ) as running:
        yield running


def test_a_batch_has_counts_a_rate_and_an_estimate(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    batch = made(service, headers, *requests_of(6))
    jobs = jobs_of(rows, batch)
    with rows.begin() as session:  # as the dispatcher records it
        session.get_one(Batch, batch_uuid(batch)).started_at = utc_now() - timedelta(minutes=1)
    succeed(rows, jobs[:2])
    end(rows, jobs[2], JobState.FAILED)
    release(rows, jobs[3:4])

    serialized = service.call("GET", f"{PATH}/{batch['id']}", headers=headers).json()

    assert (batch["linesPerSecond"], batch["estimatedSeconds"]) == (None, None)
    counts = {"queued": 3, "running": 0, "succeeded": 2, "failed": 1, "cancelled": 0, "expired": 0}
    assert (serialized["status"], serialized["total"], serialized["counts"]) == (
        "running",
        6,
        counts,
    )
    assert serialized["linesPerSecond"] == pytest.approx(3 / 60, rel=0.1)
    assert serialized["estimatedSeconds"] == pytest.approx(60, rel=0.1)


def test_cancelled_lines_do_not_count_for_the_rate(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    batch = made(service, headers, *requests_of(6))
    jobs = jobs_of(rows, batch)
    with rows.begin() as session:  # as the dispatcher records it
        session.get_one(Batch, batch_uuid(batch)).started_at = utc_now() - timedelta(minutes=1)
    succeed(rows, jobs[:1])
    service.call("POST", f"{PATH}/{batch['id']}/cancel", headers=headers)
    for job in jobs[1:5]:
        end(rows, job, JobState.CANCELLED)

    ending = service.call("GET", f"{PATH}/{batch['id']}", headers=headers).json()
    end(rows, jobs[5], JobState.CANCELLED)
    ended = service.call("GET", f"{PATH}/{batch['id']}", headers=headers).json()

    assert (ending["status"], ended["status"]) == ("cancelling", "cancelled")
    assert (ending["estimatedSeconds"], ended["estimatedSeconds"]) == (None, None)
    assert ending["linesPerSecond"] == pytest.approx(1 / 60, rel=0.1)
    assert ended["linesPerSecond"] == pytest.approx(1 / 60, rel=0.1)


def test_running_lines_are_counted(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    batch = made(service, headers, *requests_of(4))
    jobs = jobs_of(rows, batch)
    with rows.begin() as session:
        for job in jobs[:3]:
            found = session.get_one(type(job), job.id)
            found.is_held = False
            found.state = JobState.RUNNING if job.line != 3 else JobState.QUEUED

    serialized = service.call("GET", f"{PATH}/{batch['id']}", headers=headers).json()
    listed = service.call("GET", PATH, headers=headers).json()["data"]

    assert (serialized["counts"]["running"], serialized["counts"]["queued"]) == (2, 2)
    assert next(one for one in listed if one["id"] == batch["id"])["counts"] == serialized["counts"]


def test_batches_are_listed_newest_first_by_pages_and_by_state(service: Service) -> None:
    headers = stranger(service)
    ids = [made(service, headers, {"prompt": "x"})["id"] for _ in range(4)]

    first = service.call("GET", f"{PATH}?limit=3", headers=headers).json()
    rest = service.call("GET", f"{PATH}?after={first['nextCursor']}", headers=headers).json()

    assert [one["id"] for one in [*first["data"], *rest["data"]]] == ids[::-1]
    assert rest["nextCursor"] is None
    none = service.call("GET", f"{PATH}?status=completed", headers=headers).json()
    assert none["data"] == []
    assert service.call("GET", f"{PATH}?status=odd", headers=headers).status_code == 400


def test_lines_are_left_out_of_the_list_of_jobs(service: Service) -> None:
    headers = stranger(service)
    batch = made(service, headers, *requests_of(2))

    listed = service.call("GET", "/api/llm/jobs", headers=headers).json()

    assert (batch["total"], listed["data"]) == (2, [])


def test_a_single_line_can_be_read_as_a_job(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    batch = made(service, headers, *requests_of(2))
    succeed(rows, jobs_of(rows, batch)[1:])
    (line,) = results(service, headers, batch)

    serialized = service.call("GET", f"/api/llm/jobs/{line['id']}", headers=headers).json()

    assert (serialized["batchId"], serialized["line"], serialized["customId"]) == (
        batch["id"],
        2,
        "c1",
    )
    assert serialized["result"] == line["result"]


def test_results_come_in_the_files_order_as_lines_end(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    batch = made(service, headers, {"prompt": "x", "custom_id": "a"}, b"", *requests_of(4))
    jobs = jobs_of(rows, batch)
    succeed(rows, [jobs[4], jobs[2]])
    end(rows, jobs[0], JobState.FAILED)

    partial = results(service, headers, batch)

    assert [(one["line"], one["status"]) for one in partial] == [
        (1, "failed"),
        (4, "succeeded"),
        (6, "succeeded"),
    ]
    failed, done = partial[:2]
    assert (failed["custom_id"], failed["result"]) == ("a", None)
    assert failed["error"] == {"code": "engine_error", "message": "it broke"}
    assert (done["custom_id"], done["error"], done["result"]["id"]) == ("c1", None, done["id"])
    assert done["result"]["choices"] == [{"index": 0, "text": "done", "finish_reason": "stop"}]
    assert done["result"]["usage"]["total_tokens"] == 7
    end(rows, jobs[1], JobState.EXPIRED)
    end(rows, jobs[3], JobState.CANCELLED)
    assert [one["line"] for one in results(service, headers, batch)] == [1, 3, 4, 5, 6]
    response = service.call("GET", f"{PATH}/{batch['id']}/results", headers=headers)
    assert response.headers["x-batch-status"] == "completed"
    assert response.headers["Content-Type"] == "application/jsonl"


def test_results_are_filtered_by_line_and_state(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    batch = made(service, headers, *requests_of(5))
    jobs = jobs_of(rows, batch)
    succeed(rows, jobs[:3])
    end(rows, jobs[3], JobState.FAILED)
    end(rows, jobs[4], JobState.CANCELLED)

    def lines(query: str) -> list[int]:
        return [one["line"] for one in results(service, headers, batch, query)]

    assert lines("?after=2") == [3, 4, 5]
    assert lines("?after=5") == []
    assert lines("?status=failed") == [4]
    assert lines("?status=failed,cancelled") == lines("?status=failed&status=cancelled") == [4, 5]
    assert lines("?status=succeeded&after=1") == [2, 3]
    for query in ("?status=running", "?status=", "?after=-1", "?after=x", f"?after={2**31}"):
        path = f"{PATH}/{batch['id']}/results{query}"
        assert service.call("GET", path, headers=headers).status_code == 400, query


def test_results_of_many_lines_are_complete(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    batch = made(service, headers, *requests_of(1000))
    jobs = jobs_of(rows, batch)
    succeed(rows, jobs[:700], "short")
    for first in range(700, 1000, 50):  # one statement for all is too slow on a busy machine
        succeed(rows, jobs[first : first + 50], "long é🎉 " * 3000)

    lines = results(service, headers, batch)

    assert [one["custom_id"] for one in lines] == [f"c{i}" for i in range(1000)]
    assert lines[-1]["result"]["choices"][0]["text"] == "long é🎉 " * 3000


def test_a_cancelled_batch_is_cancelling_and_a_second_cancel_changes_nothing(
    service: Service, headers: dict[str, str]
) -> None:
    batch = made(service, headers, *requests_of(2))

    first = service.call("POST", f"{PATH}/{batch['id']}/cancel", headers=headers)
    repeated = service.call("POST", f"{PATH}/{batch['id']}/cancel", headers=headers)

    assert (first.status_code, first.json()["status"]) == (200, "cancelling")
    assert first.json()["cancelRequestedAt"] is not None
    assert repeated.json()["cancelRequestedAt"] == first.json()["cancelRequestedAt"]


def test_a_batch_that_has_ended_is_not_cancelled(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    batch = made(service, headers, {"prompt": "x"})
    succeed(rows, jobs_of(rows, batch))

    response = service.call("POST", f"{PATH}/{batch['id']}/cancel", headers=headers)

    assert (response.status_code, response.json()["status"]) == (200, "completed")
    assert response.json()["cancelRequestedAt"] is None


def test_an_admin_sees_a_customers_batch_and_another_customer_does_not(
    service: Service, rows: SessionFactory
) -> None:
    owner, other, admin = stranger(service), stranger(service), service.sign_in_admin()
    batch = ended_batch(service, owner, rows)

    for method, path in (("GET", ""), ("GET", "/results"), ("POST", "/cancel")):
        responses = [
            service.call(method, f"{PATH}/{batch['id']}{path}", headers=who)
            for who in (other, admin)
        ]
        assert [response.status_code < 400 for response in responses] == [False, True], responses[
            1
        ].text
        assert (responses[0].status_code, error_of(responses[0])) == (404, "not_found")
    retried = service.call("POST", f"{PATH}/{batch['id']}/retry", headers=admin)
    assert (retried.status_code, error_of(retried)) == (403, "forbidden")  # its owner would pay
    listed = service.call("GET", PATH, headers=other).json()
    assert listed["data"] == []


def test_polls_of_a_batch_are_limited(service: Service, headers: dict[str, str]) -> None:
    batch = made(service, headers, {"prompt": "x"})
    limit = service.settings.poll_rate_limit

    codes = [
        service.call("GET", f"{PATH}/{batch['id']}{path}", headers=headers).status_code
        for _ in range(limit)  # the minute may turn once
        for path in ("", "/results")
    ]

    assert set(codes) == {200, 429}


def stranger(service: Service) -> dict[str, str]:
    """Return the credentials of a new customer's key."""
    return {"x-api-key": register(service).make_key()["secret"]}
