"""Metrics of the whole service, read from the database and Redis.

A scrape reads them, unless a recent scrape did. It waits a short time only: if a part does not
respond, it is reported as away and its metrics are missing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import redis
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from core.config.settings import Settings
from core.observability.metrics import PREFIX
from core.queueing.names import QueueName
from core.queueing.workers import WorkerRegistry
from core.redis.client import open_redis, prove_redis_writable
from models.database.base import (
    DATABASE_AWAY,
    SessionFactory,
    away_reason,
    check_writable,
    open_database,
    sessions,
)
from models.maintenance.last_backup import last_backup
from models.monitoring.service_counts import (
    Waiting,
    count_accounts,
    count_held_lines,
    count_open_work,
    count_waiting,
)

_log = logging.getLogger(__name__)

#: How long values are cached: those that change often, and those that count many rows.
SHORT_TTL_SECONDS = 5.0
LONG_TTL_SECONDS = 60.0
#: How long a scrape waits for all values.
WAIT_SECONDS = 2.0


class ServiceMetrics(Collector):
    """The collector of these metrics."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings of the connections; nothing connects before the first scrape."""
        impatient = settings.model_copy(update={"database_timeout_seconds": WAIT_SECONDS})
        engine = open_database(impatient, pool_size=1, is_autocommit=True)
        self._sessions: SessionFactory = sessions(engine)
        self._redis = open_redis(settings)
        self._workers = WorkerRegistry(self._redis)
        self._groups = [
            CachedMetrics("database_up", self._read_waiting, seconds=SHORT_TTL_SECONDS),
            CachedMetrics("redis_up", self._read_workers, seconds=SHORT_TTL_SECONDS),
            CachedMetrics(None, self._read_counts, seconds=LONG_TTL_SECONDS),
        ]

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        for group in self._groups:
            group.start_reading()
        deadline = time.monotonic() + WAIT_SECONDS
        for group in self._groups:
            yield from group.metrics(deadline)

    def _read_waiting(self) -> Iterator[Metric]:
        with self._sessions() as session:
            check_writable(session)
            waiting = count_waiting(session)
            held = count_held_lines(session)
        by_queue = {queue.value: waiting.get(queue, Waiting()) for queue in QueueName}
        yield _labelled(
            "queue_jobs",
            "Jobs that wait for a worker.",
            "queue",
            {q: w.jobs for q, w in by_queue.items()},
        )
        yield _labelled(
            "queue_oldest_seconds",
            "Age of the oldest waiting job.",
            "queue",
            {queue: state.oldest_seconds for queue, state in by_queue.items()},
        )
        yield _gauge("batch_lines_held", "Lines of batches that are not on the queue yet.", held)

    def _read_workers(self) -> Iterator[Metric]:
        prove_redis_writable(self._redis)
        alive = self._workers.alive()
        yield _gauge("workers", "Workers with a recent heartbeat.", len(alive))
        ready = sum(worker.is_ready for worker in alive)
        yield _gauge("workers_ready", "Workers that accept jobs.", ready)

    def _read_counts(self) -> Iterator[Metric]:
        with self._sessions() as session:
            accounts, work = count_accounts(session), count_open_work(session)
            backed_up = last_backup(session)
        yield _gauge("users", "Users.", accounts.users)
        yield _gauge("users_active", "Users that are not suspended.", accounts.active_users)
        yield _gauge("users_recent", "Users with jobs in the last day.", accounts.recent_users)
        yield _gauge("api_keys", "Keys.", accounts.keys)
        yield _gauge("api_keys_active", "Keys that can be used.", accounts.active_keys)
        yield _gauge("api_keys_recent", "Keys with jobs in the last day.", accounts.recent_keys)
        yield _labelled("batches_open", "Batches that have not ended.", "state", work.batches)
        yield _gauge("batch_lines_open", "Lines of batches that have not ended.", work.lines)
        yield _gauge("webhooks_pending", "Webhooks that are not delivered yet.", work.webhooks)
        # 0 instead of no value: the alert must also fire if there never was a backup.
        yield _gauge(
            "backup_last_success_timestamp_seconds",
            "Time of the last successful backup.",
            backed_up.timestamp() if backed_up else 0,
        )


class CachedMetrics:
    """Metrics that a thread reads, at most once in `seconds`.

    A TTL cache of `cachetools` would not do: its caller waits for the read, without a deadline.

    Args:
        up: the name of the gauge that is 1 if the part responded, if there is such a gauge.
        seconds: how long the values are cached.
    """

    def __init__(
        self, up: str | None, read: Callable[[], Iterable[Metric]], *, seconds: float
    ) -> None:
        self._up = up
        self._read = read
        self._seconds = seconds
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._is_reading = False
        self._fresh_until = float("-inf")
        self._metrics: list[Metric] = []

    def start_reading(self) -> None:
        """Start to read if the cached values are too old and no thread reads yet."""
        with self._lock:
            if self._is_reading or time.monotonic() < self._fresh_until:
                return
            self._is_reading = True
            self._done.clear()
        threading.Thread(target=self._read_safely, name="service-metrics", daemon=True).start()

    def metrics(self, deadline: float) -> list[Metric]:
        """Return the values; if there are none by the deadline, report the part as away."""
        if self._done.wait(max(0.0, deadline - time.monotonic())):
            return self._metrics
        return self._with_up_gauge(None)

    def _read_safely(self) -> None:
        found: list[Metric] | None = None
        try:
            found = list(self._read())
        except (*DATABASE_AWAY, redis.RedisError) as error:
            _log.warning("metrics of the service are missing: %s", away_reason(error))
        except Exception:
            # Broad on purpose: the other metrics must still be published.
            _log.exception("metrics of the service are missing")
        with self._lock:
            self._metrics = self._with_up_gauge(found)
            self._fresh_until = time.monotonic() + self._seconds if found is not None else 0.0
            self._is_reading = False
            self._done.set()

    def _with_up_gauge(self, found: list[Metric] | None) -> list[Metric]:
        if self._up is None:
            return found or []
        up = _gauge(self._up, "1 if it responded and accepts changes.", found is not None)
        return [up, *(found or [])]


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, value=value)


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    metric = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=[label])
    for label_value, value in values.items():
        metric.add_metric([label_value], value)
    return metric
