"""A runner takes jobs from messages to their stored ends, each job once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from core.observability.logs import _RequestIdFilter
from models.database.base import utc_now
from tests.support.worker.runner_harness import Harness


def test_a_job_ends_with_its_result_and_exact_usage(harness: Harness) -> None:
    job_id = harness.add_job()

    harness.run(job_id)

    job = harness.read(job_id)
    assert job.state == "succeeded"
    assert job.choices is not None
    assert "hello" in job.choices[0]["text"]
    assert job.started_at and job.first_token_at and job.finished_at
    row = harness.usage()[0]
    assert (row.prompt_tokens, row.completion_tokens) == (job.prompt_tokens, job.completion_tokens)
    assert row.prompt_tokens > 0


def test_the_log_counts_the_queue_time_of_a_batch_line_from_its_release(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    now = utc_now()
    job_id = harness.add_job(
        created_at=now - timedelta(hours=5), released_at=now - timedelta(seconds=3)
    )

    with caplog.at_level("INFO", logger="worker.jobs.runner"):
        harness.run(job_id)

    (record,) = [record for record in caplog.records if record.message == "job"]
    assert 3_000 <= vars(record)["queued_ms"] < 60_000


def test_a_second_delivery_does_not_run_the_job_twice(harness: Harness) -> None:
    job_id = harness.add_job()

    harness.run(job_id)
    harness.run(job_id)

    assert harness.read(job_id).attempt == 1
    assert len(harness.usage()) == 1


def test_two_deliveries_at_once_run_the_job_once(harness: Harness) -> None:
    job_id = harness.add_job()

    harness.run(*[job_id] * 8)

    assert harness.read(job_id).attempt == 1
    assert len(harness.usage()) == 1
    assert harness.messages.acknowledged == [job_id] * 8


def test_a_refused_request_fails_with_the_reason(harness: Harness) -> None:
    job_id = harness.add_job(request={"prompt": "x", "maxTokens": 100_000})

    harness.run(job_id)

    job = harness.read(job_id)
    assert job.state == "failed"
    assert job.error is not None
    assert job.error["code"] == "invalid_request"
    assert harness.usage()[0].completion_tokens == 0


def test_an_unexpected_error_fails_the_job_in_its_first_attempt(harness: Harness) -> None:
    job_id = harness.add_job(request={"prompt": "x", "maxTokens": "nonsense"})

    harness.run(job_id)

    job = harness.read(job_id)
    assert (job.state, job.attempt) == ("failed", 1)
    assert job.error == {"code": "internal_error", "message": "something went wrong on our side"}


def test_a_cancel_before_the_generation_starts_is_not_lost(slow_harness: Harness) -> None:
    job_id = slow_harness.add_job(request={"prompt": "x", "maxTokens": 400})
    submit = slow_harness.delivery.submit

    def cancel_first(*args: Any, **options: Any) -> Any:
        slow_harness.leases.cancel(job_id)
        return submit(*args, **options)

    slow_harness.delivery.submit = cancel_first  # type: ignore[method-assign]
    slow_harness.run(job_id)

    assert slow_harness.read(job_id).state == "cancelled"
    assert slow_harness.messages.acknowledged == [job_id]


def test_a_log_record_of_a_job_has_the_id_of_its_request(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.addFilter(_RequestIdFilter())
    caplog.set_level("INFO")
    jobs = [
        harness.add_job(request_id="req_a"),
        harness.add_job(request_id="req_b", request={"prompt": "x", "maxTokens": "nonsense"}),
    ]

    harness.run(*jobs)

    records = [vars(record) for record in caplog.records if record.name == "worker.jobs.runner"]
    of_jobs = [record for record in records if "job" in record]
    assert {(record["job"], record["request_id"]) for record in of_jobs} == {
        (jobs[0].hex, "req_a"),
        (jobs[1].hex, "req_b"),
    }
    assert len(of_jobs) == 3  # the failed job has a second one with the reason
