"""Facts of the whole service for its metrics: of the database and of Redis, not of this process.

They are read when they are asked for, kept for a moment, and nobody waits long for them: a part
that does not answer is away, and what is known of it missing.
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
    open_database,
    prove_writable,
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

#: How long facts are kept: those that move, and those that are many rows to count.
SOON_SECONDS = 5.0
LATER_SECONDS = 60.0
#: How long a scrape waits for all of them.
WAIT_SECONDS = 2.0


class ServiceFacts(Collector):
    def __init__(self, settings: Settings) -> None:
        """Take where to ask; nothing connects before the first scrape."""
        impatient = settings.model_copy(update={"database_timeout_seconds": WAIT_SECONDS})
        engine = open_database(impatient, pool_size=1, is_autocommit=True)
        self._sessions: SessionFactory = sessions(engine)
        self._redis = open_redis(settings)
        self._workers = WorkerRegistry(self._redis)
        self._kept = [
            Kept("database_up", self._read_waiting, seconds=SOON_SECONDS),
            Kept("redis_up", self._read_workers, seconds=SOON_SECONDS),
            Kept(None, self._read_counts, seconds=LATER_SECONDS),
        ]

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        for kept in self._kept:
            kept.begin()
        deadline = time.monotonic() + WAIT_SECONDS
        for kept in self._kept:
            yield from kept.metrics(deadline)

    def _read_waiting(self) -> Iterator[Metric]:
        with self._sessions() as session:
            prove_writable(session)
            waiting = count_waiting(session)
            held = count_held_lines(session)
        by_queue = {queue.value: waiting.get(queue, Waiting()) for queue in QueueName}
        yield _labelled(
            "queue_jobs", "Jobs that wait.", "queue", {q: w.jobs for q, w in by_queue.items()}
        )
        yield _labelled(
            "queue_oldest_seconds",
            "Age of the oldest job that waits.",
            "queue",
            {queue: state.oldest_seconds for queue, state in by_queue.items()},
        )
        yield _gauge("batch_lines_held", "Lines of batches that were not released yet.", held)

    def _read_workers(self) -> Iterator[Metric]:
        prove_redis_writable(self._redis)
        alive = self._workers.alive()
        yield _gauge("workers", "Workers alive.", len(alive))
        ready = sum(worker.is_ready for worker in alive)
        yield _gauge("workers_ready", "Workers that take jobs.", ready)

    def _read_counts(self) -> Iterator[Metric]:
        with self._sessions() as session:
            accounts, work = count_accounts(session), count_open_work(session)
            backed_up = last_backup(session)
        yield _gauge("users", "Users.", accounts.users)
        yield _gauge("users_active", "Users that are not suspended.", accounts.active_users)
        yield _gauge("users_recent", "Users with jobs in the last day.", accounts.recent_users)
        yield _gauge("api_keys", "Keys.", accounts.keys)
        yield _gauge("api_keys_active", "Keys that may be used.", accounts.active_keys)
        yield _gauge("api_keys_recent", "Keys with jobs in the last day.", accounts.recent_keys)
        yield _labelled("batches_open", "Batches not ended.", "state", work.batches)
        yield _gauge("batch_lines_open", "Lines of batches not ended.", work.lines)
        yield _gauge("webhooks_pending", "Webhooks not delivered yet.", work.webhooks)
        # 0 and not missing: a service that never had one must raise the alarm too.
        yield _gauge(
            "backup_last_success_timestamp_seconds",
            "Moment of the last good backup.",
            backed_up.timestamp() if backed_up else 0,
        )


class Kept:
    """Metrics that are read on a thread of their own, at most once in so many seconds.

    Args:
        up: the gauge that says whether the part answered, if it is to be told.
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

    def begin(self) -> None:
        """Read again if it is time, and nobody does."""
        with self._lock:
            if self._is_reading or time.monotonic() < self._fresh_until:
                return
            self._is_reading = True
            self._done.clear()
        threading.Thread(target=self._read_safely, name="facts", daemon=True).start()

    def metrics(self, deadline: float) -> list[Metric]:
        """Return what was read; without it, by the deadline, that the part is away."""
        if self._done.wait(max(0.0, deadline - time.monotonic())):
            return self._metrics
        return self._shown(None)

    def _read_safely(self) -> None:
        found: list[Metric] | None = None
        try:
            found = list(self._read())
        except (*DATABASE_AWAY, redis.RedisError) as error:
            _log.warning("facts for the metrics are missing: %s", away_reason(error))
        except Exception:
            # Broad on purpose: the other metrics must be shown.
            _log.exception("facts for the metrics are missing")
        with self._lock:
            self._metrics = self._shown(found)
            self._fresh_until = time.monotonic() + self._seconds if found is not None else 0.0
            self._is_reading = False
            self._done.set()

    def _shown(self, found: list[Metric] | None) -> list[Metric]:
        if self._up is None:
            return found or []
        up = _gauge(self._up, "Whether it answered and takes changes.", found is not None)
        return [up, *(found or [])]


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, value=value)


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    metric = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=[label])
    for of, value in values.items():
        metric.add_metric([of], value)
    return metric
