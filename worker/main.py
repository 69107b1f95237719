"""The worker process: starts its parts, takes jobs until it is told to stop, leaves in order.

Dramatiq's command and its `Worker` are not used: one process is one engine, its exit code goes
straight to the supervisor, the drain is ours to order, and a job holds no thread. What happens to
jobs in it, and when a part fails, says `worker/jobs/runner.py`.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from core.config.settings import Settings
from core.observability.logs import configure_logging
from core.observability.metric_files import MetricFiles
from core.observability.metrics import layout
from core.observability.tracing import check_tracing
from worker.components import BuildEngine, WorkerParts
from worker.engine_factory import build_engine
from worker.maintenance.heartbeat import INTERVAL_SECONDS, Pulse
from worker.observability.gpus import GpuCollector, open_gpus
from worker.observability.metrics import WorkerCollector, serve_metrics

_log = logging.getLogger(__name__)

#: How often the main thread asks whether the engine is well.
HEALTH_SECONDS = 1.0
#: How long it may take to say that no more jobs are taken.
FAREWELL_SECONDS = 2.0
#: How long jobs that were cancelled or handed back may take to leave.
LEAVE_SECONDS = 5.0
#: How long the parts may take to stop, all together: one that waits for what is away is left.
STOP_SECONDS = 3.0


def run(settings: Settings, *, build: BuildEngine = build_engine) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code, 1 if the engine cannot go on."""
    configure_logging(program="worker", level=settings.effective_log_level)
    check_tracing(settings)
    if not settings.worker_metrics_port:
        return _serve(settings, build, None)
    name = f"worker-{settings.worker_metrics_port}"
    with MetricFiles.opened(settings.metrics_dir, name, layout=layout()) as files:
        files.claim_slot()  # before any instrument is made
        return _serve(settings, build, files)


def _serve(settings: Settings, build: BuildEngine, files: MetricFiles | None) -> int:
    must_stop = _stop_on_signals()
    parts = WorkerParts.from_settings(settings, build)
    gc.collect()
    gc.freeze()  # what the process begins with lives as long as it does
    gpus = open_gpus()
    pulse = Pulse(
        engine=parts.engine,
        leases=parts.leases,
        registry=parts.registry,
        worker_id=parts.worker_id,
        model=settings.model_name,
        max_jobs=settings.worker_jobs,
        bulk_places=settings.engine_max_sequences,
        gpus=gpus,
        interval_seconds=min(INTERVAL_SECONDS, settings.lease_seconds / 4),
    )
    if files is not None:
        worker = WorkerCollector(
            stats=parts.engine.stats, held=parts.leases.__len__, is_ready=lambda: pulse.is_ready
        )
        serve_metrics(settings, files, [worker, GpuCollector(gpus)])
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
    parts.chores.start()
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


def _drain(parts: WorkerParts, pulse: Pulse) -> None:
    """Take no new job, finish what runs within the grace period, hand the rest back, leave.

    With Redis or PostgreSQL away, or with one that answers nothing, it ends all the same: what
    could not be told or handed back runs out.
    """
    _log.info("worker drains", extra={"worker": parts.worker_id})
    farewells = [taker.stop_taking for taker in parts.takers]
    stops = [parts.feeder.stop, parts.chores.stop]
    _at_most(FAREWELL_SECONDS, [*farewells, partial(pulse.set_ready, False), *stops])
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
