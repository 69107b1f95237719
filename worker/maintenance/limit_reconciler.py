"""Mends what a crash left of the limits in Redis: jobs that ended and were not settled, charges
that no job came of, and jobs in flight that were forgotten.

Every worker runs one; at each interval one of them makes the pass.

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
from models.usage.limits import ended_use, in_flight_before, known_jobs
from worker.maintenance.guard import Guard

_log = logging.getLogger(__name__)

INTERVAL_SECONDS = 15.0
#: Jobs asked for in one statement.
CHUNK = 1000
#: A charge precedes its row, and the end of a job its settling, by less than this.
GRACE = timedelta(minutes=2)
_TURN = "limit:settling"


class Settler:
    def __init__(
        self,
        *,
        sessions: SessionFactory,
        client: redis.Redis,
        interval_seconds: float = INTERVAL_SECONDS,
        grace: timedelta = GRACE,
        failed: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._sessions = sessions
        self._client = client
        self._limiter = Limiter(client)
        self._interval_ms = max(1, round(interval_seconds * 1000))
        self._grace = grace
        self._failed = failed

    def settle(self) -> None:
        """Make a pass if it is time. With the database or Redis away the next one will."""
        try:
            if self._client.set(_TURN, 1, nx=True, px=self._interval_ms):
                self._mend()
        except DATABASE_AWAY:
            _log.warning("nothing settled: the database is away")
        except redis.RedisError:
            _log.warning("nothing settled: Redis is away")

    def _mend(self) -> None:
        # Redis before the rows: what lacks its place then and has not ended later was never
        # settled, so that putting it back counts it once.
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
                known = held.get(key_id, {})
                if known is None:
                    continue  # what it holds could not be read
                missing = {job: tokens for job, tokens in charged.items() if job not in known}
                with self._guard(key_id):
                    self._limiter.restore(key_id, missing, is_bulk=queue is QueueName.BULK)
        for key_id, reservations in held.items():
            with self._guard(key_id):
                for chunk in _chunks(reservations or {}):
                    self._settle_ended(key_id, chunk)

    def _guard(self, key_id: UUID) -> Guard:
        """Return what keeps the errors of one key from the others."""
        away = (*DATABASE_AWAY, redis.RedisError)
        return Guard("settler", about=key_id.hex, failed=self._failed, lets_pass=away)

    def _settle_ended(self, key_id: UUID, held: dict[UUID, Reservation]) -> None:
        with self._sessions() as session:
            known = known_jobs(session, held)
            ended = ended_use(session, held)
        # By the clock that dated the charges: ours may be ahead, and then those whose rows are
        # being written would look forgotten.
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
