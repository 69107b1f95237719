"""The worker process: builds its parts, takes jobs until it is told to stop, leaves in order.

Dramatiq's command and its `Worker` are not used: one process is one engine, its exit code goes
straight to the supervisor, the drain is ours to order, and a job holds no thread. What happens to
jobs in it, and when a part fails, says `worker/runner.py`.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import redis

from core.answer_cache import AnswerCache
from core.ids import new_id
from core.job_ends import JobEnds
from core.job_requests import listen_for_requests
from core.log import configure_logging
from core.metric_files import MetricFiles
from core.metrics import layout
from core.prompt import PromptTokenizer
from core.queue import JobBroker, QueueName
from core.redis_client import open_redis
from core.settings import Settings
from core.subscription import Subscription
from core.tracing import Traces, check_tracing
from core.worker_registry import WorkerRegistry
from models.base import open_database, sessions
from models.job import Job
from models.statements import Statements
from worker.answers import keep_answers
from worker.consumer import DoorbellConsumer
from worker.delivery import Delivery
from worker.engine import Engine
from worker.engines import build_engine
from worker.feeder import Feeder
from worker.gpus import open_gpus
from worker.leases import Leases
from worker.ledger import Ledger
from worker.metrics import WorkerFacts, WorkerMetrics, show_metrics
from worker.pulse import INTERVAL_SECONDS, Pulse
from worker.reaper import Reaper
from worker.retention import Retention
from worker.runner import JobRunner
from worker.settler import Settler
from worker.taker import Taker
from worker.text_sender import TextSender
from worker.tracing import JobTraces
from worker.usage_closer import UsageCloser
from worker.webhooks import WebhookSender

_log = logging.getLogger(__name__)

#: How often the main thread asks whether the engine is well.
HEALTH_SECONDS = 1.0
#: How long it may take to say that no more jobs are taken.
FAREWELL_SECONDS = 2.0
#: How long jobs that were cancelled or handed back may take to leave.
LEAVE_SECONDS = 5.0
#: How long the parts may take to stop, all together: one that waits for what is away is left.
STOP_SECONDS = 3.0

#: Makes the engine that the settings name; nothing is loaded before its start.
BuildEngine = Callable[[Settings, PromptTokenizer], Engine]


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """What a worker process is made of."""

    settings: Settings
    worker_id: str
    engine: Engine
    delivery: Delivery
    ledger: Ledger
    runner: JobRunner
    takers: list[Taker]
    leases: Leases
    reaper: Reaper
    settler: Settler
    usage_closer: UsageCloser
    retention: Retention
    feeder: Feeder
    registry: WorkerRegistry
    text_sender: TextSender
    webhooks: WebhookSender
    requests: Subscription
    client: redis.Redis
    metrics: WorkerMetrics
    traces: list[JobTraces]

    @classmethod
    def from_settings(cls, settings: Settings, build: BuildEngine) -> WorkerParts:
        worker_id = f"{socket.gethostname()[:24]}-{os.getpid()}-{new_id().hex[-8:]}"
        client = open_redis(settings)
        metrics = WorkerMetrics()
        traces = []
        if settings.traces_endpoint:
            traces.append(JobTraces(Traces(settings, "worker"), worker_id=worker_id))
        ends = JobEnds(client, count=metrics.jobs_ended.ended)
        database = sessions(open_database(settings))
        tokenizer = PromptTokenizer.load(settings.model_path, settings.prompt_mode)
        engine = build(settings, tokenizer)
        engine.observe_steps(metrics.steps.observe)
        text_sender = TextSender(client)
        delivery = Delivery(engine, tokenizer.decode, tell=text_sender.tell)
        leases = Leases(
            database, worker_id=worker_id, lease=timedelta(seconds=settings.lease_seconds)
        )
        feeder = Feeder(sessions=database, client=client, ends=ends)
        ledger = Ledger(
            sessions=database,
            # Two connections: for the thread that claims, and the one that ends.
            statements=Statements(
                open_database(settings, pool_size=2, is_autocommit=True, plans_once=True),
                keeps=2,
            ),
            ends=ends,
            worker_id=worker_id,
            lease=leases.lease,
            decode=tokenizer.decode,
            keep=partial(keep_answers, AnswerCache.from_settings(settings, client)),
            observe=partial(_show_ends, [metrics.jobs.observe, *(t.record for t in traces)]),
            lines_moved=feeder.wake,
            max_attempts=settings.max_attempts,
            holds_attempt=leases.holds_attempt,
        )
        runner = JobRunner(
            ledger=ledger,
            tokenizer=tokenizer,
            delivery=delivery,
            leases=leases,
        )
        return cls(
            settings=settings,
            worker_id=worker_id,
            engine=engine,
            delivery=delivery,
            ledger=ledger,
            runner=runner,
            takers=_takers(settings, client, runner),
            leases=leases,
            reaper=Reaper(
                sessions=database,
                client=client,
                max_attempts=settings.max_attempts,
                lease=leases.lease,
                ends=ends,
            ),
            settler=Settler(sessions=database, client=client),
            usage_closer=UsageCloser(sessions=database),
            retention=Retention(sessions=database, settings=settings),
            feeder=feeder,
            registry=WorkerRegistry(client),
            text_sender=text_sender,
            webhooks=WebhookSender(
                sessions=database, settings=settings, tried=metrics.webhooks.tried
            ),
            requests=listen_for_requests(client, runner.act),
            client=client,
            metrics=metrics,
            traces=traces,
        )


def run(settings: Settings, *, build: BuildEngine = build_engine) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code, 1 if the engine cannot go on."""
    configure_logging(program="worker", level=settings.effective_log_level)
    check_tracing(settings)
    if not settings.worker_metrics_port:
        return _serve(settings, build, None)
    name = f"worker-{settings.worker_metrics_port}"
    with MetricFiles.opened(settings.metrics_dir, name, layout=layout()) as files:
        files.take_place()  # before any instrument is made
        return _serve(settings, build, files)


def _serve(settings: Settings, build: BuildEngine, files: MetricFiles | None) -> int:
    must_stop = _stop_on_signals()
    parts = WorkerParts.from_settings(settings, build)
    gc.collect()
    gc.freeze()  # what the process begins with lives as long as it does
    pulse = Pulse(
        engine=parts.engine,
        leases=parts.leases,
        chores=[
            parts.reaper.reap,
            parts.settler.settle,
            parts.usage_closer.close,
            parts.retention.enforce,
        ],
        registry=parts.registry,
        worker_id=parts.worker_id,
        model=settings.model_name,
        max_jobs=settings.worker_jobs,
        bulk_places=settings.engine_max_sequences,
        gpus=open_gpus(),
        interval_seconds=min(INTERVAL_SECONDS, settings.lease_seconds / 4),
    )
    if files is not None:
        facts = WorkerFacts(
            stats=parts.engine.stats, held=parts.leases.__len__, is_ready=lambda: pulse.is_ready
        )
        show_metrics(settings, files, facts)
    pulse.start()
    parts.ledger.start()
    parts.text_sender.start()
    parts.delivery.start()
    parts.requests.listen()
    parts.webhooks.start()
    parts.runner.start()
    for taker in parts.takers:
        taker.start()
    pulse.set_ready(True)
    parts.feeder.start()
    _log.info("worker is ready", extra={"worker": parts.worker_id})
    while not must_stop.wait(HEALTH_SECONDS):
        if not parts.engine.is_healthy:
            # Nothing here can be trusted now. The leases run out, the jobs run elsewhere.
            _log.critical("the engine cannot go on, this worker ends")
            os._exit(1)
    _drain(parts, pulse)
    return 0


def _stop_on_signals() -> threading.Event:
    must_stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: must_stop.set())
    return must_stop


def _takers(settings: Settings, client: redis.Redis, runner: JobRunner) -> list[Taker]:
    broker = JobBroker(client)
    most = {QueueName.INTERACTIVE: settings.worker_jobs, QueueName.BULK: settings.bulk_jobs}
    takers = []
    for queue in QueueName:
        consumer = DoorbellConsumer(
            broker, queue, most=most[queue], eager=settings.engine_max_sequences
        )
        takers.append(Taker(consumer, runner.take, name=f"take-{queue}"))
    return takers


def _show_ends(observers: Sequence[Callable[[Sequence[Job]], None]], jobs: Sequence[Job]) -> None:
    for observe in observers:
        try:
            observe(jobs)
        except Exception:
            # Broad on purpose: that jobs ended must be told, measured or not.
            _log.exception("ends could not be measured")


def _drain(parts: WorkerParts, pulse: Pulse) -> None:
    """Take no new job, finish what runs within the grace period, hand the rest back, leave.

    With Redis or PostgreSQL away, or with one that answers nothing, it ends all the same: what
    could not be told or handed back runs out.
    """
    _log.info("worker drains", extra={"worker": parts.worker_id})
    farewells = [taker.stop_taking for taker in parts.takers]
    _at_most(FAREWELL_SECONDS, [*farewells, partial(pulse.set_ready, False), parts.feeder.stop])
    if not parts.runner.wait_idle(parts.settings.drain_seconds):
        _log.info("jobs are handed back", extra={"worker": parts.worker_id})
        parts.runner.leave()
        _at_most(LEAVE_SECONDS / 2, [parts.leases.hand_back])
    parts.runner.leave()
    _at_most(LEAVE_SECONDS / 2, [parts.delivery.stop])  # a step may hang
    parts.runner.wait_idle(LEAVE_SECONDS / 2)
    stops = [parts.runner.stop, parts.ledger.stop, parts.requests.close, parts.text_sender.stop]
    stops += [trace.close for trace in parts.traces]
    stops += [parts.webhooks.stop, pulse.stop, *(taker.stop for taker in parts.takers)]
    _at_most(STOP_SECONDS, stops)
    _log.info("worker ended", extra={"worker": parts.worker_id})


def _at_most(seconds: float, calls: Sequence[Callable[[], object]]) -> None:
    """Make calls at once, each on a thread of its own, and wait this long for all of them."""
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(timeout=max(0.0, deadline - time.monotonic()))
