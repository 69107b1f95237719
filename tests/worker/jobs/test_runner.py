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

    done: list[UUID] = field(default_factory=list)
    back: list[UUID] = field(default_factory=list)

    def ack(self, job_id: UUID) -> None:
        self.done.append(job_id)

    def requeue(self, job_id: UUID) -> None:
        self.back.append(job_id)


@dataclass
class Bench:
    """A runner with real components."""

    database: SessionFactory
    client: redis.Redis
    tokenizer: PromptTokenizer
    delivery: Delivery
    leases: Leases
    ledger: Ledger
    runner: JobRunner
    source: Messages = field(default_factory=lambda: Messages())

    def stop(self) -> None:
        self.delivery.stop()
        self.runner.stop()
        self.ledger.stop()

    def take(self, *job_ids: UUID) -> None:
        """Deliver jobs to the runner."""
        self.runner.accept([JobMessage(job_id, self.source) for job_id in job_ids])

    def run(self, *job_ids: UUID) -> None:
        """Deliver jobs, and wait until the runner has released them."""
        self.take(*job_ids)
        assert self.runner.wait_idle(10)

    def job(self, **values: Any) -> UUID:
        with self.database.begin() as session:
            return add_job(session, **values).id

    def read(self, job_id: UUID) -> Job:
        with self.database() as session:
            return session.get_one(Job, job_id)

    def usage(self) -> list[Usage]:
        with self.database() as session:
            return list(session.scalars(select(Usage)))


def bench_of(
    database: SessionFactory,
    client: redis.Redis,
    tokenizer: PromptTokenizer,
    *,
    pace: float = 0.0,
    worker_id: str = "w1",
) -> Bench:
    delivery = Delivery(EchoEngine(tokens_per_second=pace), TokenBytes(tokenizer.tokenizer))
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
    return Bench(database, client, tokenizer, delivery, leases, ledger, runner)


@pytest.fixture
def bench(
    database: SessionFactory, redis_client: redis.Redis, tokenizer: PromptTokenizer
) -> Iterator[Bench]:
    bench = bench_of(database, redis_client, tokenizer)
    yield bench
    bench.stop()


@pytest.fixture
def slow(
    database: SessionFactory, redis_client: redis.Redis, tokenizer: PromptTokenizer
) -> Iterator[Bench]:
    bench = bench_of(database, redis_client, tokenizer, pace=5)
    yield bench
    bench.stop()


def test_a_job_ends_with_its_result_and_exact_usage(bench: Bench) -> None:
    job_id = bench.job()

    bench.run(job_id)

    job = bench.read(job_id)
    assert job.state == "succeeded"
    assert job.choices is not None
    assert "hello" in job.choices[0]["text"]
    assert job.started_at and job.first_token_at and job.finished_at
    row = bench.usage()[0]
    assert (row.prompt_tokens, row.completion_tokens) == (job.prompt_tokens, job.completion_tokens)
    assert row.prompt_tokens > 0


def test_the_log_counts_the_wait_of_a_line_from_its_release(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    now = utc_now()
    job_id = bench.job(created_at=now - timedelta(hours=5), released_at=now - timedelta(seconds=3))

    with caplog.at_level("INFO", logger="worker.jobs.runner"):
        bench.run(job_id)

    (line,) = [record for record in caplog.records if record.message == "job"]
    assert 3_000 <= vars(line)["queued_ms"] < 60_000


def test_a_second_delivery_does_not_run_the_job_again(bench: Bench) -> None:
    job_id = bench.job()

    bench.run(job_id)
    bench.run(job_id)

    assert bench.read(job_id).attempt == 1
    assert len(bench.usage()) == 1


def test_two_deliveries_at_once_run_the_job_once(bench: Bench) -> None:
    job_id = bench.job()

    bench.run(*[job_id] * 8)

    assert bench.read(job_id).attempt == 1
    assert len(bench.usage()) == 1
    assert bench.source.done == [job_id] * 8


def test_a_refused_request_fails_with_the_reason(bench: Bench) -> None:
    job_id = bench.job(request={"prompt": "x", "maxTokens": 100_000})

    bench.run(job_id)

    job = bench.read(job_id)
    assert job.state == "failed"
    assert job.error is not None
    assert job.error["code"] == "invalid_request"
    assert bench.usage()[0].completion_tokens == 0


def test_a_result_waits_for_the_database_to_come_back(bench: Bench) -> None:
    job_id = bench.job()
    sessions, failures = bench.ledger._finishes._sessions, [3]

    class Away:
        """A database that is away for the first three transactions after the claim."""

        def begin(self) -> Any:
            if bench.leases.is_held(job_id, 1) and failures[0]:
                failures[0] -= 1
                raise OperationalError("commit", {}, Exception("connection refused"))
            return sessions.begin()

    bench.ledger._finishes._sessions = Away()  # type: ignore[assignment]
    bench.run(job_id)

    assert failures == [0]
    assert bench.read(job_id).state == "succeeded"


def test_a_job_that_another_worker_took_over_is_dropped(slow: Bench) -> None:
    job_id = slow.job(request={"prompt": "x", "maxTokens": 40})
    slow.take(job_id)
    wait_until(lambda: slow.leases.is_held(job_id, 1), 20)

    with slow.database.begin() as session:
        session.get_one(Job, job_id).worker_id = "w2"
    slow.leases.renew()
    assert slow.runner.wait_idle(10)

    assert slow.read(job_id).state == "running"
    assert slow.usage() == []


def test_a_requeued_job_runs_on_another_worker(
    slow: Bench, database: SessionFactory, redis_client: redis.Redis, tokenizer: PromptTokenizer
) -> None:
    job_id = slow.job(request={"prompt": "x", "maxTokens": 40})
    slow.take(job_id)
    wait_until(lambda: slow.leases.is_held(job_id, 1), 20)

    assert slow.leases.hand_back() == 1
    assert slow.runner.wait_idle(10)
    assert (slow.read(job_id).state, slow.read(job_id).attempt) == ("queued", 0)

    other = bench_of(database, redis_client, tokenizer, worker_id="w2")
    other.run(job_id)
    other.stop()
    assert (slow.read(job_id).state, slow.read(job_id).attempt) == ("succeeded", 1)
    assert len(slow.usage()) == 1


def test_a_late_result_after_the_lease_expired_is_dropped(slow: Bench) -> None:
    job_id = slow.job(request={"prompt": "x", "maxTokens": 3})
    slow.take(job_id)
    wait_until(lambda: slow.leases.is_held(job_id, 1), 20)

    with slow.database.begin() as session:
        job = session.get_one(Job, job_id)
        assert job.lease_expires_at is not None
        job.lease_expires_at -= timedelta(minutes=1)
        session.flush()
        requeue_silent_jobs(session, max_attempts=3, limit=10)
    assert slow.runner.wait_idle(10)

    assert slow.read(job_id).state == "queued"
    assert slow.usage() == []


def test_a_job_submitted_to_a_stopping_engine_is_requeued(bench: Bench) -> None:
    job_id = bench.job()
    bench.delivery.stop()

    bench.run(job_id)

    assert (bench.read(job_id).state, bench.read(job_id).attempt) == ("queued", 0)
    assert bench.usage() == []


def test_a_leaving_process_claims_nothing_and_cancels_nothing(slow: Bench) -> None:
    begun = slow.job(request={"prompt": "x", "maxTokens": 40})
    slow.take(begun)
    wait_until(lambda: slow.leases.is_held(begun, 1), 20)
    late = slow.job()

    slow.runner.leave()
    slow.take(late)
    slow.delivery.stop()
    assert slow.runner.wait_idle(10)

    assert [slow.read(job_id).state for job_id in (begun, late)] == ["queued", "queued"]
    assert slow.usage() == []


def test_an_unexpected_error_fails_the_job_in_its_first_attempt(bench: Bench) -> None:
    job_id = bench.job(request={"prompt": "x", "maxTokens": "nonsense"})

    bench.run(job_id)

    job = bench.read(job_id)
    assert (job.state, job.attempt) == ("failed", 1)
    assert job.error == {"code": "internal_error", "message": "something went wrong on our side"}


class Nul(TokenBytes):
    """Tokens that contain NUL."""

    def __getitem__(self, token_id: int) -> bytes:
        return super().__getitem__(token_id).replace(b"hello", b"he\0lo")


def test_a_generated_nul_becomes_a_replacement_character(bench: Bench) -> None:
    bench.delivery._tokens = Nul(bench.tokenizer.tokenizer)
    job_id = bench.job()

    bench.run(job_id)

    job = bench.read(job_id)
    assert job.state == "succeeded"
    assert job.choices is not None
    assert "he\ufffdlo" in job.choices[0]["text"]


def test_a_rejected_result_fails_only_its_own_job(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL stores no NUL in a text."""
    monkeypatch.setattr("worker.text.choice.storable", lambda text: text)
    bench.delivery._tokens = Nul(bench.tokenizer.tokenizer)
    guilty = bench.job()
    others = [bench.job(request={"prompt": "x", "maxTokens": 50}) for _ in range(5)]

    bench.run(guilty, *others)

    assert [bench.read(job_id).state for job_id in others] == ["succeeded"] * 5
    job = bench.read(guilty)
    assert (job.state, job.attempt) == ("failed", 1)
    assert job.error == {"code": "internal_error", "message": "the result could not be written"}
    assert len(bench.usage()) == 6


def test_a_cancel_before_the_generation_starts_is_not_lost(slow: Bench) -> None:
    job_id = slow.job(request={"prompt": "x", "maxTokens": 400})
    submit = slow.delivery.submit

    def cancel_first(*args: Any, **options: Any) -> Any:
        slow.leases.cancel(job_id)
        return submit(*args, **options)

    slow.delivery.submit = cancel_first  # type: ignore[method-assign]
    slow.run(job_id)

    assert slow.read(job_id).state == "cancelled"
    assert slow.source.done == [job_id]


def test_a_log_line_of_a_job_carries_the_id_of_its_request(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.addFilter(_RequestIdFilter())
    caplog.set_level("INFO")
    jobs = [
        bench.job(request_id="req_a"),
        bench.job(request_id="req_b", request={"prompt": "x", "maxTokens": "nonsense"}),
    ]

    bench.run(*jobs)

    lines = [vars(r) for r in caplog.records if r.name == "worker.jobs.runner" and "job" in vars(r)]
    assert {(line["job"], line["request_id"]) for line in lines} == {
        (jobs[0].hex, "req_a"),
        (jobs[1].hex, "req_b"),
    }
    assert len(lines) == 3  # one is the reason of the failure


def test_a_completion_is_cached_when_its_end_is_published(
    bench: Bench, redis_client: redis.Redis
) -> None:
    request = {"prompt": "hello", "maxTokens": 50, "temperature": 0.0, "cache": True}
    job_id = bench.job(request=request)

    bench.run(job_id)

    cached = ResponseCache(redis_client, model="m", seconds=60).find(
        bench.read(job_id).user_id, Generation.from_row(request)
    )
    assert cached is not None
    assert cached.choices == bench.read(job_id).choices
