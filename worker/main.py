"""The worker process: starts its components, runs jobs, and drains.

It does not use Dramatiq's command and its `Worker`. One process is one engine, its exit code goes
straight to the supervisor, it controls its own drain, and a job occupies no thread.
`worker/jobs/runner.py` describes the path of a job, and what happens when a part fails.
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
from worker.components import BuildEngine, Components
from worker.engine_factory import build_engine
from worker.maintenance.heartbeat import INTERVAL_SECONDS, Heartbeat
from worker.observability.gpus import GpuCollector, open_gpus
from worker.observability.metrics import WorkerCollector, serve_metrics

_log = logging.getLogger(__name__)

#: Time between two checks of the engine by the main thread.
HEALTH_CHECK_SECONDS = 1.0
#: Longest time to stop fetching jobs and to report that.
STOP_FETCHING_SECONDS = 2.0
#: Longest time for cancelled or requeued jobs to leave the engine.
LEAVE_SECONDS = 5.0
#: Longest time for all components to stop: one that waits for an absent server is abandoned.
STOP_SECONDS = 3.0


def run(settings: Settings, *, build: BuildEngine = build_engine) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code, 1 for a dead engine."""
    configure_logging(program="worker", level=settings.effective_log_level)
    check_tracing(settings)
    if not settings.worker_metrics_port:
        return _serve(settings, build, None)
    name = f"worker-{settings.worker_metrics_port}"
    with MetricFiles.opened(settings.metrics_dir, name, layout=layout()) as files:
        files.claim_slot()  # before the first instrument exists
        return _serve(settings, build, files)


def _serve(settings: Settings, build: BuildEngine, files: MetricFiles | None) -> int:
    must_stop = _stop_on_signals()
    components = Components.from_settings(settings, build)
    gc.collect()
    gc.freeze()  # the objects made so far live as long as the process
    gpus = open_gpus()
    heartbeat = Heartbeat(
        engine=components.engine,
        leases=components.leases,
        registry=components.registry,
        worker_id=components.worker_id,
        model=settings.model_name,
        max_jobs=settings.worker_jobs,
        bulk_slots=settings.engine_max_sequences,
        gpus=gpus,
        interval_seconds=min(INTERVAL_SECONDS, settings.lease_seconds / 4),
    )
    if files is not None:
        worker = WorkerCollector(
            stats=components.engine.stats,
            held=components.leases.__len__,
            is_ready=lambda: heartbeat.is_ready,
        )
        serve_metrics(settings, files, [worker, GpuCollector(gpus)])
    heartbeat.start()
    components.ledger.start()
    components.text_publisher.start()
    components.delivery.start()
    components.commands.listen()
    components.webhooks.start()
    components.runner.start()
    for poller in components.pollers:
        poller.start()
    heartbeat.set_ready(True)
    components.chores.start()
    components.dispatcher.start()
    _log.info("worker is ready", extra={"worker": components.worker_id})
    while not must_stop.wait(HEALTH_CHECK_SECONDS):
        if not components.engine.is_healthy:
            # No state of this process can be trusted. Its leases expire, its jobs run elsewhere.
            _log.critical("the engine cannot continue, the worker exits")
            os._exit(1)
    _drain(components, heartbeat)
    return 0


def _stop_on_signals() -> threading.Event:
    must_stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: must_stop.set())
    return must_stop


def _drain(components: Components, heartbeat: Heartbeat) -> None:
    """Stop fetching, finish jobs within the grace period, requeue the rest.

    Ends on time even if Redis or PostgreSQL is away or hangs. Leases and messages that could not
    be returned expire.
    """
    runner, pollers = components.runner, components.pollers
    _log.info("worker drains", extra={"worker": components.worker_id})
    stops: list[Callable[[], object]] = [poller.stop_fetching for poller in pollers]
    stops += [partial(heartbeat.set_ready, False)]
    stops += [components.dispatcher.stop, components.chores.stop]
    _run_within(STOP_FETCHING_SECONDS, stops)
    if not runner.wait_idle(components.settings.drain_seconds):
        _log.info("running jobs are requeued", extra={"worker": components.worker_id})
        runner.leave()
        _run_within(LEAVE_SECONDS / 2, [components.leases.hand_back])
    runner.leave()
    _run_within(LEAVE_SECONDS / 2, [components.delivery.stop])  # a step may hang
    runner.wait_idle(LEAVE_SECONDS / 2)
    stops = [runner.stop, components.ledger.stop]
    stops += [components.commands.close, components.text_publisher.stop]
    stops += [trace.close for trace in components.traces]
    stops += [components.webhooks.stop, heartbeat.stop, *(poller.stop for poller in pollers)]
    _run_within(STOP_SECONDS, stops)
    _log.info("worker ended", extra={"worker": components.worker_id})


def _run_within(seconds: float, calls: Sequence[Callable[[], object]]) -> None:
    """Make calls in parallel, each on its own thread; wait this long for all of them."""
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(timeout=max(0.0, deadline - time.monotonic()))
