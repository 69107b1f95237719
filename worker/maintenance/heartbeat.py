"""The worker's heartbeat: reports its status and renews its leases."""

from __future__ import annotations

import logging
import threading
import time

import redis

from core.queueing.workers import BULK_SLOTS, WorkerRegistry, WorkerStatus
from worker.engine.protocol import Engine, EngineStats
from worker.jobs.leases import Leases
from worker.jobs.throughput import JobThroughput
from worker.observability.gpus import Gpus, NoGpus

_log = logging.getLogger(__name__)

INTERVAL_SECONDS = 2.0
JOIN_SECONDS = 5.0


class Heartbeat:
    def __init__(
        self,
        *,
        engine: Engine,
        leases: Leases,
        registry: WorkerRegistry,
        worker_id: str,
        model: str,
        max_jobs: int,
        bulk_slots: int = BULK_SLOTS,
        gpus: Gpus | None = None,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        """Connect the components.

        Args:
            max_jobs: most interactive jobs that the worker holds, and `bulk_slots` most bulk jobs.
            interval_seconds: time between two heartbeats; several must fit into a lease.
        """
        self._engine = engine
        self._leases = leases
        self._registry = registry
        self._worker_id = worker_id
        self._model = model
        self._max_jobs = max_jobs
        self._bulk_slots = bulk_slots
        self._gpus = gpus or NoGpus()
        self._interval_seconds = interval_seconds
        self._is_ready = False
        self._before = (time.monotonic(), 0)
        self._throughput = JobThroughput()
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether this worker takes jobs."""
        return self._is_ready

    def set_ready(self, is_ready: bool) -> None:
        """Set whether this worker takes jobs, and report it at once."""
        self._is_ready = is_ready
        self._report()

    def stop(self) -> None:
        """Stop the heartbeat and remove this worker's status."""
        self._is_stopping.set()
        self._thread.join(timeout=JOIN_SECONDS)
        try:
            self._registry.remove(self._worker_id)
        except redis.RedisError:
            _log.warning("cannot remove the heartbeat, it will expire: Redis is away")

    def _run(self) -> None:
        while not self._is_stopping.wait(self._interval_seconds):
            try:
                self._beat()
            except Exception:
                # A worker without a heartbeat loses its jobs, so no error may end this thread.
                _log.exception("a heartbeat failed")

    def _beat(self) -> None:
        # Leases first: they must be renewed even if Redis is away.
        self._leases.renew()
        self._report()

    def _report(self) -> None:
        stats = self._engine.stats()
        status = WorkerStatus(
            worker_id=self._worker_id,
            model=self._model,
            context_length=self._engine.context_length if self._is_ready else 0,
            is_ready=self._is_ready,
            running=stats.running,
            waiting=stats.waiting,
            cache_use=round(stats.cache_use, 4),
            steps=stats.steps,
            tokens_per_second=self._tokens_per_second(stats),
            jobs_per_second=self._jobs_per_second(stats),
            restarts=stats.restarts,
            bulk_places=self._bulk_slots,
            gpus=tuple(gpu.status for gpu in self._gpus.read()),
        )
        try:
            self._registry.report(status)
        except redis.RedisError:
            _log.warning("cannot report a heartbeat: Redis is away")

    def _tokens_per_second(self, stats: EngineStats) -> float:
        before, tokens = self._before
        now = time.monotonic()
        self._before = (now, stats.generated_tokens)
        seconds = now - before
        return round((stats.generated_tokens - tokens) / seconds, 1) if seconds > 0 else 0.0

    def _jobs_per_second(self, stats: EngineStats) -> float:
        is_full = stats.waiting > 0 or len(self._leases) >= self._max_jobs
        ended = self._leases.released
        return round(self._throughput.measure(time.monotonic(), ended=ended, is_full=is_full), 4)
