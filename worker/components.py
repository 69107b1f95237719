"""Builds the components of a worker process and connects them."""

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
from worker.batches.dispatcher import Dispatcher
from worker.engine.protocol import Engine
from worker.jobs.consumer import DoorbellConsumer
from worker.jobs.delivery import Delivery
from worker.jobs.leases import Leases
from worker.jobs.ledger import Ledger
from worker.jobs.poller import Poller
from worker.jobs.response_cache import cache_completions
from worker.jobs.runner import JobRunner
from worker.jobs.text_publisher import TextPublisher
from worker.maintenance.chores import INTERVAL_SECONDS, Chores
from worker.maintenance.limit_reconciler import LimitReconciler
from worker.maintenance.reaper import Reaper
from worker.maintenance.retention import Retention
from worker.maintenance.usage_rollup import UsageRollup
from worker.observability.metrics import WorkerMetrics
from worker.observability.tracing import JobTraces
from worker.text.token_bytes import TokenBytes
from worker.webhooks.sender import WebhookSender

_log = logging.getLogger(__name__)

#: Builds the engine that the settings name. The engine loads nothing before its start.
BuildEngine = Callable[[Settings, PromptTokenizer], Engine]
#: Receives jobs whose ends were committed.
ObserveEnds = Callable[[Sequence[Job]], None]


@dataclass(frozen=True, slots=True)
class Components:
    """The components of a worker process, built but not started.

    Attributes:
        chores: regular work that one worker does for all.
        commands: subscription to commands about running jobs.
    """

    settings: Settings
    worker_id: str
    engine: Engine
    delivery: Delivery
    ledger: Ledger
    runner: JobRunner
    pollers: list[Poller]
    leases: Leases
    chores: Chores
    dispatcher: Dispatcher
    registry: WorkerRegistry
    text_publisher: TextPublisher
    webhooks: WebhookSender
    commands: Subscription
    metrics: WorkerMetrics
    traces: list[JobTraces]

    @classmethod
    def from_settings(cls, settings: Settings, build: BuildEngine) -> Components:
        worker_id = f"{socket.gethostname()[:24]}-{os.getpid()}-{new_id().hex[-8:]}"
        client = open_redis(settings)
        database = sessions(open_database(settings))
        metrics = WorkerMetrics()
        count_failure = metrics.chores.count_failure
        traces = _traces(settings, worker_id)
        tokenizer = PromptTokenizer.load(settings.model_path, settings.prompt_mode)
        engine = build(settings, tokenizer)
        engine.observe_steps(metrics.steps.observe)
        publisher = TextPublisher(client)
        delivery = Delivery(engine, TokenBytes(tokenizer.tokenizer), publish=publisher.publish)
        lease = timedelta(seconds=settings.lease_seconds)
        leases = Leases(database, worker_id=worker_id, lease=lease)
        ends = EndAnnouncer(client, count=metrics.jobs_ended.count)
        dispatcher = Dispatcher(
            sessions=database, client=client, ends=ends, count_failure=count_failure
        )
        observers = [metrics.jobs.observe, *(trace.record for trace in traces)]
        ledger = Ledger(
            sessions=database,
            statements=_statements(settings),
            ends=ends,
            worker_id=worker_id,
            lease=lease,
            cache=partial(cache_completions, ResponseCache.from_settings(settings, client)),
            observe=partial(_observe_all, observers),
            on_lines_changed=dispatcher.wake,
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
            pollers=_pollers(settings, client, runner),
            leases=leases,
            chores=_chores(settings, database, client, ends, count_failure),
            dispatcher=dispatcher,
            registry=WorkerRegistry(client),
            text_publisher=publisher,
            webhooks=WebhookSender(
                sessions=database,
                settings=settings,
                count_attempt=metrics.webhooks.count_attempt,
                count_failure=count_failure,
            ),
            commands=subscribe_to_commands(client, runner.on_command),
            metrics=metrics,
            traces=traces,
        )


def _traces(settings: Settings, worker_id: str) -> list[JobTraces]:
    """Return the recorder of spans; none without an endpoint."""
    if not settings.traces_endpoint:
        return []
    return [JobTraces(Traces(settings, "worker"), worker_id=worker_id)]


def _statements(settings: Settings) -> Statements:
    """Return two connections: one for claims, one for ends."""
    database = open_database(settings, pool_size=2, is_autocommit=True, has_generic_plans=True)
    return Statements(database, max_idle=2)


def _chores(
    settings: Settings,
    database: SessionFactory,
    client: redis.Redis,
    ends: EndAnnouncer,
    count_failure: Callable[[str], None],
) -> Chores:
    reaper = Reaper(
        sessions=database,
        client=client,
        max_attempts=settings.max_attempts,
        lease=timedelta(seconds=settings.lease_seconds),
        ends=ends,
        count_failure=count_failure,
    )
    reconciler = LimitReconciler(sessions=database, client=client, count_failure=count_failure)
    usage_rollup = UsageRollup(sessions=database)
    retention = Retention(sessions=database, settings=settings, count_failure=count_failure)
    return Chores(
        {
            "reaper": reaper.reap,
            "limits": reconciler.reconcile,
            "rollup": usage_rollup.roll_up,
            "retention": retention.enforce,
        },
        count_failure=count_failure,
        interval_seconds=min(INTERVAL_SECONDS, settings.lease_seconds / 4),
    )


def _pollers(settings: Settings, client: redis.Redis, runner: JobRunner) -> list[Poller]:
    broker = JobBroker(client, lease_seconds=settings.lease_seconds)
    max_jobs = {QueueName.INTERACTIVE: settings.worker_jobs, QueueName.BULK: settings.bulk_jobs}
    pollers = []
    for queue in QueueName:
        consumer = DoorbellConsumer(
            broker, queue, max_jobs=max_jobs[queue], back_off_at=settings.engine_max_sequences
        )
        pollers.append(Poller(consumer, runner.accept, name=f"poll-{queue}"))
    return pollers


def _observe_all(observers: Sequence[ObserveEnds], jobs: Sequence[Job]) -> None:
    for observe in observers:
        try:
            observe(jobs)
        except Exception:
            # Broad on purpose: the ends must be published even if they cannot be measured.
            _log.exception("cannot measure ended jobs")
