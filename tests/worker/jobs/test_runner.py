"""A runner takes jobs from messages to their stored ends, each job once and for its own worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
import redis
from sqlalchemy import NullPool, create_engine, select
from sqlalchemy.exc import OperationalError

from core.completion.announce import EndAnnouncer
from core.completion.response_cache import ResponseCache
from core.generation import Generation
from core.observability.logs import _RequestIdFilter
from core.prompts.tokenizer import PromptTokenizer
from models.database.base import SessionFactory, utc_now
from models.database.prepared import Statements
from models.jobs.job import Job
from models.jobs.transitions import requeue_silent_jobs
from models.usage.usage import Usage
from tests.support.factories.rows import add_job
from tests.support.polling import wait_until
from worker.engine.echo import EchoEngine
from worker.jobs.delivery import Delivery
from worker.jobs.leases import Leases
from worker.jobs.ledger import Ledger
from worker.jobs.response_cache import cache_completions
from worker.jobs.run import JobMessage
from worker.jobs.runner import JobRunner
from worker.text.token_bytes import TokenBytes


@dataclass
class Messages:
    """Records which messages a runner acknowledged or requeued."""

    acknowledged: list[UUID] = field(default_factory=list)
    requeued: list[UUID] = field(default_factory=list)

    def ack(self, job_id: UUID) -> None:
        self.acknowledged.append(job_id)

    def requeue(self, job_id: UUID) -> None:
        self.requeued.append(job_id)


@dataclass
class Harness:
    """A runner with real components and the echo engine."""

    database: SessionFactory
    client: redis.Redis
    tokenizer: PromptTokenizer
    delivery: Delivery
    leases: Leases
    ledger: Ledger
    runner: JobRunner
    messages: Messages = field(default_factory=Messages)

    def stop(self) -> None:
        self.delivery.stop()
        self.runner.stop()
        self.ledger.stop()

    def deliver(self, *job_ids: UUID) -> None:
        """Deliver a message of each job to the runner."""
        self.runner.accept([JobMessage(job_id, self.messages) for job_id in job_ids])

    def run(self, *job_ids: UUID) -> None:
        """Deliver messages, and wait until the runner has finished with their jobs."""
        self.deliver(*job_ids)
        assert self.runner.wait_idle(10)

    def add_job(self, **values: Any) -> UUID:
        with self.database.begin() as session:
            return add_job(session, **values).id

    def read(self, job_id: UUID) -> Job:
        with self.database() as session:
            return session.get_one(Job, job_id)

    def usage(self) -> list[Usage]:
        with self.database() as session:
            return list(session.scalars(select(Usage)))


def start_harness(
    database: SessionFactory,
    client: redis.Redis,
    tokenizer: PromptTokenizer,
    *,
    tokens_per_second: float = 0.0,
    worker_id: str = "w1",
) -> Harness:
    """Start a runner; an engine with 0 tokens per second generates without a pause."""
    engine = EchoEngine(tokens_per_second=tokens_per_second)
    delivery = Delivery(engine, TokenBytes(tokenizer.tokenizer))
    delivery.start()
    lease = timedelta(seconds=10)
    leases = Leases(database, worker_id=worker_id, lease=lease)
    ledger = Ledger(
        sessions=database,
        statements=Statements(
            create_engine(
                database.kw["bind"].url, isolation_level="AUTOCOMMIT", poolclass=NullPool
            ),
            max_idle=0,
        ),
        ends=EndAnnouncer(client),
        worker_id=worker_id,
        lease=lease,
        cache=partial(cache_completions, ResponseCache(client, model="m", seconds=60)),
    )
    ledger.start()
    runner = JobRunner(ledger=ledger, tokenizer=tokenizer, delivery=delivery, leases=leases)
    runner.start()
    return Harness(database, client, tokenizer, delivery, leases, ledger, runner)


@pytest.fixture
def harness(
    database: SessionFactory, redis_client: redis.Redis, tokenizer: PromptTokenizer
) -> Iterator[Harness]:
    harness = start_harness(database, redis_client, tokenizer)
    yield harness
    harness.stop()


@pytest.fixture
def slow_harness(
    database: SessionFactory, redis_client: redis.Redis, tokenizer: PromptTokenizer
) -> Iterator[Harness]:
    harness = start_harness(database, redis_client, tokenizer, tokens_per_second=5)
    yield harness
    harness.stop()


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


def test_a_result_waits_for_the_database_to_come_back(harness: Harness) -> None:
    job_id = harness.add_job()
    sessions, failures = harness.ledger._finishes._sessions, [3]

    class UnreliableDatabase:
        """A database that is away for the first three transactions after the claim."""

        def begin(self) -> Any:
            if harness.leases.is_held(job_id, 1) and failures[0]:
                failures[0] -= 1
                raise OperationalError("commit", {}, Exception("connection refused"))
            return sessions.begin()

    harness.ledger._finishes._sessions = UnreliableDatabase()  # type: ignore[assignment]
    harness.run(job_id)

    assert failures == [0]
    assert harness.read(job_id).state == "succeeded"


def test_a_job_that_another_worker_claimed_is_dropped(slow_harness: Harness) -> None:
    job_id = slow_harness.add_job(request={"prompt": "x", "maxTokens": 40})
    slow_harness.deliver(job_id)
    wait_until(lambda: slow_harness.leases.is_held(job_id, 1), 20)

    with slow_harness.database.begin() as session:
        session.get_one(Job, job_id).worker_id = "w2"
    slow_harness.leases.renew()
    assert slow_harness.runner.wait_idle(10)

    assert slow_harness.read(job_id).state == "running"
    assert slow_harness.usage() == []


def test_a_requeued_job_runs_on_another_worker(
    slow_harness: Harness,
    database: SessionFactory,
    redis_client: redis.Redis,
    tokenizer: PromptTokenizer,
) -> None:
    job_id = slow_harness.add_job(request={"prompt": "x", "maxTokens": 40})
    slow_harness.deliver(job_id)
    wait_until(lambda: slow_harness.leases.is_held(job_id, 1), 20)

    assert slow_harness.leases.hand_back() == 1
    assert slow_harness.runner.wait_idle(10)
    assert (slow_harness.read(job_id).state, slow_harness.read(job_id).attempt) == ("queued", 0)

    other = start_harness(database, redis_client, tokenizer, worker_id="w2")
    other.run(job_id)
    other.stop()
    assert (slow_harness.read(job_id).state, slow_harness.read(job_id).attempt) == ("succeeded", 1)
    assert len(slow_harness.usage()) == 1


def test_a_late_result_after_the_lease_expired_is_dropped(slow_harness: Harness) -> None:
    job_id = slow_harness.add_job(request={"prompt": "x", "maxTokens": 3})
    slow_harness.deliver(job_id)
    wait_until(lambda: slow_harness.leases.is_held(job_id, 1), 20)

    with slow_harness.database.begin() as session:
        job = session.get_one(Job, job_id)
        assert job.lease_expires_at is not None
        job.lease_expires_at -= timedelta(minutes=1)
        session.flush()
        requeue_silent_jobs(session, max_attempts=3, limit=10)
    assert slow_harness.runner.wait_idle(10)

    assert slow_harness.read(job_id).state == "queued"
    assert slow_harness.usage() == []


def test_a_job_submitted_to_a_stopping_engine_is_requeued(harness: Harness) -> None:
    job_id = harness.add_job()
    harness.delivery.stop()

    harness.run(job_id)

    assert (harness.read(job_id).state, harness.read(job_id).attempt) == ("queued", 0)
    assert harness.usage() == []


def test_a_leaving_process_claims_nothing_and_cancels_nothing(slow_harness: Harness) -> None:
    running = slow_harness.add_job(request={"prompt": "x", "maxTokens": 40})
    slow_harness.deliver(running)
    wait_until(lambda: slow_harness.leases.is_held(running, 1), 20)
    delivered_late = slow_harness.add_job()

    slow_harness.runner.leave()
    slow_harness.deliver(delivered_late)
    slow_harness.delivery.stop()
    assert slow_harness.runner.wait_idle(10)

    states = [slow_harness.read(job_id).state for job_id in (running, delivered_late)]
    assert states == ["queued", "queued"]
    assert slow_harness.usage() == []


def test_an_unexpected_error_fails_the_job_in_its_first_attempt(harness: Harness) -> None:
    job_id = harness.add_job(request={"prompt": "x", "maxTokens": "nonsense"})

    harness.run(job_id)

    job = harness.read(job_id)
    assert (job.state, job.attempt) == ("failed", 1)
    assert job.error == {"code": "internal_error", "message": "something went wrong on our side"}


class TokensWithNul(TokenBytes):
    """The bytes of tokens, some of which contain NUL."""

    def __getitem__(self, token_id: int) -> bytes:
        return super().__getitem__(token_id).replace(b"hello", b"he\0lo")


def test_a_generated_nul_becomes_a_replacement_character(harness: Harness) -> None:
    harness.delivery._tokens = TokensWithNul(harness.tokenizer.tokenizer)
    job_id = harness.add_job()

    harness.run(job_id)

    job = harness.read(job_id)
    assert job.state == "succeeded"
    assert job.choices is not None
    assert "he\ufffdlo" in job.choices[0]["text"]


def test_a_rejected_result_fails_only_its_own_job(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL stores no NUL in a text."""
    monkeypatch.setattr("worker.text.choice.storable", lambda text: text)
    harness.delivery._tokens = TokensWithNul(harness.tokenizer.tokenizer)
    guilty = harness.add_job()
    others = [harness.add_job(request={"prompt": "x", "maxTokens": 50}) for _ in range(5)]

    harness.run(guilty, *others)

    assert [harness.read(job_id).state for job_id in others] == ["succeeded"] * 5
    job = harness.read(guilty)
    assert (job.state, job.attempt) == ("failed", 1)
    assert job.error == {"code": "internal_error", "message": "the result could not be written"}
    assert len(harness.usage()) == 6


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


def test_a_completion_is_cached_when_its_end_is_published(
    harness: Harness, redis_client: redis.Redis
) -> None:
    request = {"prompt": "hello", "maxTokens": 50, "temperature": 0.0, "cache": True}
    job_id = harness.add_job(request=request)

    harness.run(job_id)

    cached = ResponseCache(redis_client, model="m", seconds=60).find(
        harness.read(job_id).user_id, Generation.from_row(request)
    )
    assert cached is not None
    assert cached.choices == harness.read(job_id).choices
