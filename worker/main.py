"""The worker process: builds its parts, takes jobs until it is told to stop, leaves in order.

Dramatiq's `Worker` runs inside this process rather than under Dramatiq's command: one process is
one engine, its exit code goes straight to the supervisor, and the drain is ours to order.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import dramatiq
import redis
from dramatiq import Worker

from core.answer_cache import AnswerCache
from core.ids import new_id
from core.job_ends import JobEnds
from core.job_requests import listen_for_requests
from core.log import configure_logging
from core.prompt import PromptTokenizer
from core.queue import JobBroker, QueueName, actor_name
from core.redis_client import open_redis
from core.settings import Settings
from core.subscription import Subscription
from core.worker_registry import WorkerRegistry
from models.base import open_database, sessions
from worker.delivery import Delivery
from worker.engine import Engine
from worker.engines import build_engine
from worker.leases import Leases
from worker.ledger import Ledger
from worker.pulse import INTERVAL_SECONDS, Pulse
from worker.reaper import Reaper
from worker.runner import JobRunner
from worker.settler import Settler
from worker.text_sender import TextSender
from worker.webhooks import WebhookSender

_log = logging.getLogger(__name__)

#: How often the main thread asks whether the engine is well.
HEALTH_SECONDS = 1.0
#: Threads for bulk jobs beside those for interactive ones: a bulk job never takes their place.
BULK_THREADS = 16
#: How long jobs that were cancelled or handed back may take to leave.
LEAVE_SECONDS = 5.0
#: How long an idle consumer waits for the doorbell before it looks around.
IDLE_MS = 1000


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """What a worker process is made of."""

    settings: Settings
    worker_id: str
    engine: Engine
    delivery: Delivery
    ledger: Ledger
    runner: JobRunner
    leases: Leases
    reaper: Reaper
    settler: Settler
    registry: WorkerRegistry
    text_sender: TextSender
    webhooks: WebhookSender
    requests: Subscription
    client: redis.Redis

    @classmethod
    def from_settings(cls, settings: Settings) -> WorkerParts:
        worker_id = f"{socket.gethostname()[:24]}-{os.getpid()}-{new_id().hex[-8:]}"
        client = open_redis(settings)
        database = sessions(open_database(settings))
        tokenizer = PromptTokenizer.load(settings.model_path, settings.prompt_mode)
        engine = build_engine(settings, tokenizer)
        text_sender = TextSender(client)
        delivery = Delivery(engine, tokenizer.decode, tell=text_sender.tell)
        leases = Leases(
            database, worker_id=worker_id, lease=timedelta(seconds=settings.lease_seconds)
        )
        ledger = Ledger(
            sessions=database, ends=JobEnds(client), worker_id=worker_id, lease=leases.lease
        )
        runner = JobRunner(
            ledger=ledger,
            answers=AnswerCache.from_settings(settings, client),
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
            leases=leases,
            reaper=Reaper(
                sessions=database,
                client=client,
                max_attempts=settings.max_attempts,
                lease=leases.lease,
            ),
            settler=Settler(sessions=database, client=client),
            registry=WorkerRegistry(client),
            text_sender=text_sender,
            webhooks=WebhookSender(sessions=database, settings=settings),
            requests=listen_for_requests(client, runner.act),
            client=client,
        )


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code, 1 if the engine cannot go on."""
    configure_logging(program="worker", level=settings.effective_log_level)
    must_stop = _stop_on_signals()
    parts = WorkerParts.from_settings(settings)
    pulse = Pulse(
        engine=parts.engine,
        leases=parts.leases,
        chores=[parts.reaper.reap, parts.settler.settle],
        registry=parts.registry,
        worker_id=parts.worker_id,
        model=settings.model_name,
        max_jobs=settings.worker_threads,
        interval_seconds=min(INTERVAL_SECONDS, settings.lease_seconds / 4),
    )
    pulse.start()
    parts.ledger.start()
    parts.text_sender.start()
    parts.delivery.start()
    parts.requests.listen()
    parts.webhooks.start()
    consumer = _consume(parts)
    pulse.set_ready(True)
    _log.info("worker is ready", extra={"worker": parts.worker_id})
    while not must_stop.wait(HEALTH_SECONDS):
        if not parts.engine.is_healthy:
            # Nothing here can be trusted now. The leases run out, the jobs run elsewhere.
            _log.critical("the engine cannot go on, this worker ends")
            os._exit(1)
    _drain(parts, consumer, pulse)
    return 0


def _stop_on_signals() -> threading.Event:
    must_stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: must_stop.set())
    return must_stop


def _consume(parts: WorkerParts) -> Worker:
    threads = {
        QueueName.INTERACTIVE: parts.settings.worker_threads,
        QueueName.BULK: BULK_THREADS,
    }
    broker = JobBroker(parts.client, prefetch=threads, eager=parts.settings.engine_max_sequences)
    dramatiq.set_broker(broker)

    def run_job(job_id: str) -> None:
        parts.runner.run(UUID(job_id))

    for priority, queue in enumerate(QueueName):
        dramatiq.actor(
            broker=broker, actor_name=actor_name(queue), queue_name=queue, priority=priority
        )(run_job)
    consumer = Worker(broker, worker_threads=sum(threads.values()), worker_timeout=IDLE_MS)
    consumer.start()
    return consumer


def _drain(parts: WorkerParts, consumer: Worker, pulse: Pulse) -> None:
    """Take no new job, finish what runs within the grace period, hand the rest back, leave."""
    _log.info("worker drains", extra={"worker": parts.worker_id})
    pulse.set_ready(False)
    for thread in consumer.consumers.values():
        thread.pause()
    consumer.stop(timeout=round(parts.settings.drain_seconds * 1000))
    parts.runner.leave()
    handed_back = parts.leases.hand_back()
    parts.delivery.stop()
    deadline = time.monotonic() + LEAVE_SECONDS
    for worker_thread in consumer.workers:
        # Together: with Redis away each of them would try to acknowledge its job for ever.
        worker_thread.join(timeout=max(0.0, deadline - time.monotonic()))
    parts.ledger.stop()
    parts.requests.close()
    parts.text_sender.stop()
    parts.webhooks.stop()
    pulse.stop()
    _log.info("worker ended", extra={"worker": parts.worker_id, "handed_back": handed_back})
