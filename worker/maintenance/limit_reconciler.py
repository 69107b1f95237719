"""Corrects the limits in Redis after a crash.

It settles ended jobs, removes charges without a job, and restores lost charges of jobs in flight.

Every worker runs a reconciler; in each interval one of them makes the pass.

Redis keys:
    limit:settling   held by the worker that makes the pass of this interval
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from uuid import UUID

import redis

from core.limits.limiter import Limiter, Reservation
from core.queueing.names import QueueName
from models.database.base import DATABASE_AWAY, SessionFactory, database_now
from models.usage.limits import in_flight_before, known_jobs, read_used_tokens
from worker.maintenance.guard import Guard

_log = logging.getLogger(__name__)

INTERVAL_SECONDS = 15.0
#: Jobs in one statement.
CHUNK = 1000
#: A charge is older than its row, and an end than its settlement, by less than this.
GRACE = timedelta(minutes=2)
_INTERVAL_LOCK = "limit:settling"


class LimitReconciler:
    def __init__(
        self,
        *,
        sessions: SessionFactory,
        client: redis.Redis,
        interval_seconds: float = INTERVAL_SECONDS,
        grace: timedelta = GRACE,
        count_failure: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._sessions = sessions
        self._client = client
        self._limiter = Limiter(client)
        self._interval_ms = max(1, round(interval_seconds * 1000))
        self._grace = grace
        self._count_failure = count_failure

    def reconcile(self) -> None:
        """Make a pass if it is due. With a server away, leave it to the next pass."""
        try:
            if self._client.set(_INTERVAL_LOCK, 1, nx=True, px=self._interval_ms):
                self._reconcile()
        except DATABASE_AWAY:
            _log.warning("limits are not reconciled: the database is away")
        except redis.RedisError:
            _log.warning("limits are not reconciled: Redis is away")

    def _reconcile(self) -> None:
        # Read Redis before the rows: a job without a charge then, and still in flight later, was
        # never settled. Restoring its charge counts it once.
        self._limiter.load()
        held: dict[UUID, dict[UUID, Reservation] | None] = {}
        for key_id in self._limiter.busy_keys():
            held[key_id] = None
            with self._guard(key_id):
                held[key_id] = self._limiter.in_flight(key_id)
        for queue in QueueName:
            with self._sessions() as session:
                before = database_now(session) - self._grace
                rows = in_flight_before(session, before, queue)
            for key_id, charged in rows.items():
                charges = held.get(key_id, {})
                if charges is None:
                    continue  # its charges could not be read
                missing = {job: tokens for job, tokens in charged.items() if job not in charges}
                with self._guard(key_id):
                    self._limiter.restore(key_id, missing, is_bulk=queue is QueueName.BULK)
        for key_id, reservations in held.items():
            with self._guard(key_id):
                for chunk in _chunks(reservations or {}):
                    self._settle_ended(key_id, chunk)

    def _guard(self, key_id: UUID) -> Guard:
        """Return a guard that isolates the errors of one key."""
        away = (*DATABASE_AWAY, redis.RedisError)
        return Guard("limits", about=key_id.hex, count_failure=self._count_failure, expected=away)

    def _settle_ended(self, key_id: UUID, held: dict[UUID, Reservation]) -> None:
        with self._sessions() as session:
            known = known_jobs(session, held)
            ended = read_used_tokens(session, held)
        # Use the clock of Redis, which dated the charges. If ours were ahead, charges whose rows
        # are being written would look abandoned.
        seconds, _ = self._client.time()
        before = datetime.fromtimestamp(seconds, UTC) - self._grace
        with self._client.pipeline(transaction=False) as pipe:
            for job_id, used in ended.items():
                self._limiter.settle(key_id, job_id, used, pipe=pipe)
            for job_id, reservation in held.items():
                is_orphan = job_id not in known and job_id not in ended
                if is_orphan and reservation.charged_at < before:
                    _log.warning("charge without a job", extra={"job": job_id.hex})
                    self._limiter.release(key_id, job_id, pipe=pipe)
            pipe.execute()


def _chunks(held: dict[UUID, Reservation]) -> Iterator[dict[UUID, Reservation]]:
    remaining = iter(held.items())
    while chunk := dict(islice(remaining, CHUNK)):
        yield chunk
