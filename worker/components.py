"""The parts that a worker process is made of, and how they know each other."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import redis

from core.completion.announce import EndAnnouncer
from core.completion.response_cache import ResponseCache
from core.config.settings import Settings
from core.events.job_commands import subscribe_to_commands
from core.ids import new_id
from core.observability.tracing import Traces
from core.prompts.tokenizer import PromptTokenizer
from core.queueing.broker import JobBroker
from core.queueing.names import QueueName
from core.queueing.workers import WorkerRegistry
from core.redis.client import open_redis
from core.redis.subscription import Subscription
from models.database.base import SessionFactory, open_database, sessions
from models.database.prepared import Statements
from models.jobs.job import Job
from worker.batches.dispatcher import Feeder
from worker.engine.protocol import Engine
from worker.jobs.consumer import DoorbellConsumer
from worker.jobs.delivery import Delivery
from worker.jobs.leases import Leases
from worker.jobs.ledger import Ledger
from worker.jobs.poller import Taker
from worker.jobs.response_cache import keep_answers
from worker.jobs.runner import JobRunner
from worker.jobs.text_sender import TextSender
from worker.maintenance.chores import INTERVAL_SECONDS, Chores
from worker.maintenance.limit_reconciler import Settler
from worker.maintenance.reaper import Reaper
from worker.maintenance.retention import Retention
from worker.maintenance.usage_rollup import UsageCloser
from worker.observability.metrics import WorkerMetrics
from worker.observability.tracing import JobTraces
from worker.text.token_bytes import TokenBytes
from worker.webhooks.sender import WebhookSender

_log = logging.getLogger(__name__)

#: Makes the engine that the settings name; nothing is loaded before its start.
BuildEngine = Callable[[Settings, PromptTokenizer], Engine]
#: Is told of jobs that ended.
ObserveEnds = Callable[[Sequence[Job]], None]


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """Everything in a worker process, built but not started.

    Attributes:
        chores: what any worker does for all.
    """

    settings: Settings
    worker_id: str
    engine: Engine
    delivery: Delivery
    ledger: Ledger
    runner: JobRunner
    takers: list[Taker]
    leases: Leases
    chores: Chores
    feeder: Feeder
    registry: WorkerRegistry
    text_sender: TextSender
    webhooks: WebhookSender
    requests: Subscription
    metrics: WorkerMetrics
    traces: list[JobTraces]

    @classmethod
    def from_settings(cls, settings: Settings, build: BuildEngine) -> WorkerParts:
        worker_id = f"{socket.gethostname()[:24]}-{os.getpid()}-{new_id().hex[-8:]}"
        client = open_redis(settings)
        database = sessions(open_database(settings))
        metrics = WorkerMetrics()
        traces = _traces(settings, worker_id)
        tokenizer = PromptTokenizer.load(settings.model_path, settings.prompt_mode)
        engine = build(settings, tokenizer)
        engine.observe_steps(metrics.steps.observe)
        text_sender = TextSender(client)
        delivery = Delivery(engine, TokenBytes(tokenizer.tokenizer), tell=text_sender.tell)
        lease = timedelta(seconds=settings.lease_seconds)
        leases = Leases(database, worker_id=worker_id, lease=lease)
        ends = EndAnnouncer(client, count=metrics.jobs_ended.count)
        feeder = Feeder(sessions=database, client=client, ends=ends, failed=metrics.chores.failed)
        ledger = Ledger(
            sessions=database,
            statements=_statements(settings),
            ends=ends,
            worker_id=worker_id,
            lease=lease,
            keep=partial(keep_answers, ResponseCache.from_settings(settings, client)),
            observe=partial(_show_ends, [metrics.jobs.observe, *(t.record for t in traces)]),
            lines_moved=feeder.wake,
            max_attempts=settings.max_attempts,
            holds_attempt=leases.holds_attempt,
        )
        runner = JobRunner(ledger=ledger, tokenizer=tokenizer, delivery=delivery, leases=leases)
        return cls(
            settings=settings,
            worker_id=worker_id,
            engine=engine,
            delivery=delivery,
            ledger=ledger,
            runner=runner,
            takers=_takers(settings, client, runner),
            leases=leases,
            chores=_chores(settings, database, client, ends, metrics.chores.failed),
            feeder=feeder,
            registry=WorkerRegistry(client),
            text_sender=text_sender,
            webhooks=WebhookSender(
                sessions=database,
                settings=settings,
                tried=metrics.webhooks.tried,
                failed=metrics.chores.failed,
            ),
            requests=subscribe_to_commands(client, runner.act),
            metrics=metrics,
            traces=traces,
        )


def _traces(settings: Settings, worker_id: str) -> list[JobTraces]:
    """Return what records spans, if anything does."""
    if not settings.traces_endpoint:
        return []
    return [JobTraces(Traces(settings, "worker"), worker_id=worker_id)]


def _statements(settings: Settings) -> Statements:
    """Return two connections: for the thread that claims, and the one that ends."""
    database = open_database(settings, pool_size=2, is_autocommit=True, plans_once=True)
    return Statements(database, keeps=2)


def _chores(
    settings: Settings,
    database: SessionFactory,
    client: redis.Redis,
    ends: EndAnnouncer,
    failed: Callable[[str], None],
) -> Chores:
    reaper = Reaper(
        sessions=database,
        client=client,
        max_attempts=settings.max_attempts,
        lease=timedelta(seconds=settings.lease_seconds),
        ends=ends,
        failed=failed,
    )
    settler = Settler(sessions=database, client=client, failed=failed)
    usage_closer = UsageCloser(sessions=database)
    retention = Retention(sessions=database, settings=settings, failed=failed)
    return Chores(
        {
            "reaper": reaper.reap,
            "settler": settler.settle,
            "usage": usage_closer.close,
            "retention": retention.enforce,
        },
        failed=failed,
        interval_seconds=min(INTERVAL_SECONDS, settings.lease_seconds / 4),
    )


def _takers(settings: Settings, client: redis.Redis, runner: JobRunner) -> list[Taker]:
    broker = JobBroker(client, lease_seconds=settings.lease_seconds)
    most = {QueueName.INTERACTIVE: settings.worker_jobs, QueueName.BULK: settings.bulk_jobs}
    takers = []
    for queue in QueueName:
        consumer = DoorbellConsumer(
            broker, queue, most=most[queue], eager=settings.engine_max_sequences
        )
        takers.append(Taker(consumer, runner.take, name=f"take-{queue}"))
    return takers


def _show_ends(observers: Sequence[ObserveEnds], jobs: Sequence[Job]) -> None:
    for observe in observers:
        try:
            observe(jobs)
        except Exception:
            # Broad on purpose: that jobs ended must be told, measured or not.
            _log.exception("ends could not be measured")
