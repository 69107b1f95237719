"""A runner with its real components, and the messages that it receives."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import redis
from sqlalchemy import NullPool, create_engine, select

from core.completion.announce import EndAnnouncer
from core.completion.response_cache import ResponseCache
from core.prompts.tokenizer import PromptTokenizer
from models.database.base import SessionFactory
from models.database.prepared import Statements
from models.jobs.job import Job
from models.usage.usage import Usage
from tests.support.factories.rows import add_job
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
