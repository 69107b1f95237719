from __future__ import annotations

import threading
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.batches.batch import Batch
from models.batches.cancellation import begin_expiries, request_batch_cancel
from models.batches.dispatch import next_lines, release_lines
from models.database.base import SessionFactory, utc_now
from models.execution.claims import hand_back_jobs
from models.execution.completion import cancel_jobs, record_ends
from models.execution.finish import finish_jobs
from models.jobs.job import Job, JobState
from models.jobs.outcome import JobOutcome
from models.maintenance.consistency import compare_batches
from models.monitoring.service_counts import count_held_lines
from models.pages.overview import read_overview
from models.webhooks.webhook import WebhookDelivery
from tests.support.factories.batches import LEASE, add_batch, batch_of, claim_lines
from tests.support.factories.rows import add_job, claim_jobs

URL = "https://example.com/hook"
DONE = JobOutcome(JobState.SUCCEEDED, prompt_tokens=5, completion_tokens=7, cached_tokens=2)
FAILED = JobOutcome(JobState.FAILED, error={"code": "x", "message": "x"}, prompt_tokens=5)


def end(session: Session, jobs: list[Job], *outcomes: JobOutcome) -> list[Job]:
    ended = finish_jobs(session, list(zip(jobs, outcomes, strict=True)), worker_id="w")
    record_ends(session, ended)
    return ended


def deliveries(session: Session) -> list[WebhookDelivery]:
    return list(session.scalars(select(WebhookDelivery)))


def test_each_end_is_counted_by_its_state_with_its_tokens(session: Session) -> None:
    batch_id = add_batch(session, lines=4).id
    first, second = claim_lines(session, batch_id, count=2)

    end(session, [first], DONE)
    end(session, [second], FAILED)

    batch = batch_of(session, batch_id)
    assert (batch.succeeded, batch.failed, batch.ended, batch.state) == (1, 1, 2, "running")
    assert (batch.prompt_tokens, batch.completion_tokens, batch.cached_tokens) == (10, 7, 2)
    assert list(compare_batches(session, since=None, until=None)) == []


def test_a_line_that_never_began_counts_no_tokens(session: Session) -> None:
    batch_id = add_batch(session, lines=2).id
    lines = next_lines(session, {batch_id: 1}, {})
    release_lines(session, lines)

    cancel_jobs(session, [lines[0].id])

    batch = batch_of(session, batch_id)
    assert (batch.cancelled, batch.prompt_tokens) == (1, 0)


def test_a_result_that_is_delivered_twice_counts_once(session: Session) -> None:
    batch_id = add_batch(session, lines=3).id
    jobs = claim_lines(session, batch_id, count=1)

    end(session, jobs, DONE)
    assert end(session, jobs, DONE) == []

    assert batch_of(session, batch_id).succeeded == 1


def test_a_line_that_goes_back_to_the_queue_changes_nothing(session: Session) -> None:
    batch_id = add_batch(session, lines=1).id
    (job,) = claim_lines(session, batch_id)

    hand_back_jobs(session, {job.id: job.attempt}, worker_id="w")

    batch = batch_of(session, batch_id)
    assert (batch.ended, batch.state) == (0, "running")


def test_jobs_with_and_without_batches_end_together(session: Session) -> None:
    one, other = add_batch(session, lines=2).id, add_batch(session, lines=2).id
    jobs = [*claim_lines(session, one), *claim_lines(session, other, count=1)]
    alone = add_job(session)
    jobs += claim_jobs(session, [alone.id], worker_id="w", lease=LEASE)

    end(session, jobs, *[DONE] * 4)

    assert batch_of(session, one).state == "completed"
    assert batch_of(session, other).succeeded == 1


def test_the_last_line_ends_the_batch_and_adds_its_webhook(session: Session) -> None:
    batch_id = add_batch(session, lines=2, webhook_url=URL, labels={"a": "b"}).id
    jobs = claim_lines(session, batch_id)

    end(session, jobs, DONE, FAILED)

    batch = batch_of(session, batch_id)
    assert batch.state == "completed" and batch.finished_at is not None
    (delivery,) = deliveries(session)
    assert (delivery.event, delivery.url) == ("batch.completed", URL)
    assert (delivery.batch_id, delivery.job_id) == (batch_id, None)
    assert delivery.payload["status"] == "completed"
    assert delivery.payload["counts"] == {
        "queued": 0,
        "running": 0,
        "succeeded": 1,
        "failed": 1,
        "cancelled": 0,
        "expired": 0,
    }
    assert delivery.payload["usage"]["total_tokens"] == 17
    assert delivery.payload["metadata"] == {"a": "b"}


def test_a_batch_that_is_cancelled_or_expires_has_that_state(session: Session) -> None:
    unwanted = add_batch(session, lines=1, webhook_url=URL).id
    late = add_batch(session, lines=1, webhook_url=URL)
    jobs = [*claim_lines(session, unwanted), *claim_lines(session, late.id)]
    late.expires_at = late.created_at - timedelta(seconds=1)
    session.flush()

    requested = request_batch_cancel(session, unwanted)
    assert (
        requested is not None and requested.state == "cancelling" and requested.cancel_requested_at
    )
    assert begin_expiries(session, [unwanted, late.id]) == [late.id]
    end(session, jobs, DONE, DONE)

    assert batch_of(session, unwanted).state == "cancelled"
    assert batch_of(session, late.id).state == "expired"
    assert {d.event for d in deliveries(session)} == {"batch.cancelled", "batch.expired"}


def test_held_lines_are_neither_released_nor_ended(session: Session) -> None:
    batch_id = add_batch(session, lines=5).id
    add_batch(session, lines=3)
    done = add_batch(session, lines=1).id
    end(session, claim_lines(session, done), DONE)
    end(session, claim_lines(session, batch_id, count=1), DONE)
    claim_lines(session, batch_id, count=1)  # runs

    held = select(func.count()).where(Job.state == JobState.QUEUED, Job.is_held)
    assert count_held_lines(session) == session.scalar(held) == 6


def test_the_overview_counts_open_batches_and_their_lines(session: Session) -> None:
    batch_id = add_batch(session, lines=3).id
    done = add_batch(session, lines=1).id
    end(session, claim_lines(session, batch_id, count=1), DONE)
    end(session, claim_lines(session, done), DONE)

    overview = read_overview(session, utc_now())

    assert (overview.open_batches, overview.open_lines) == (1, 2)


def test_a_batch_that_has_ended_is_not_cancelled(session: Session) -> None:
    batch_id = add_batch(session, lines=1).id
    end(session, claim_lines(session, batch_id), DONE)

    assert request_batch_cancel(session, batch_id) is None
    assert batch_of(session, batch_id).state == "completed"


def test_concurrent_ends_of_lines_of_the_same_batches_are_all_counted(
    database: SessionFactory,
) -> None:
    with database.begin() as session:
        batch_ids = [add_batch(session, lines=60, webhook_url=URL).id for _ in range(3)]
        jobs = [job for batch_id in batch_ids for job in claim_lines(session, batch_id)]
    mixed = [jobs[offset::6] for offset in range(6)]
    together = threading.Barrier(len(mixed))
    faults: list[BaseException] = []

    def work(own: list[Job]) -> None:
        try:
            together.wait(10)
            for start in range(0, len(own), 3):
                with database.begin() as session:
                    end(session, own[start : start + 3], *[DONE] * len(own[start : start + 3]))
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=[own]) for own in mixed]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert faults == []
    with database() as session:
        batches = session.scalars(select(Batch)).all()
        assert [(b.state, b.succeeded, b.completion_tokens) for b in batches] == [
            ("completed", 60, 420)
        ] * 3
        assert session.scalar(select(func.count()).select_from(WebhookDelivery)) == 3
        assert list(compare_batches(session, since=None, until=None)) == []


def test_the_check_reports_a_batch_whose_sums_differ_from_its_lines(session: Session) -> None:
    batch = add_batch(session, lines=2)
    end(session, claim_lines(session, batch.id), DONE, DONE)
    batch = batch_of(session, batch.id)
    batch.succeeded, batch.failed = 1, 1
    batch.completion_tokens = 1
    session.flush()

    (difference,) = compare_batches(session, since=None, until=None)

    assert difference.problem == (
        "the batch has succeeded 1, lines 2; failed 1, lines 0; completion_tokens 1, lines 14"
    )
