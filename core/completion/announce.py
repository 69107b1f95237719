"""Settles the limits of ended jobs in Redis and publishes their ends, after the COMMIT."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import redis
from redis.client import Pipeline

from core.events.job_events import publish_ends
from core.limits.limiter import Limiter
from core.observability.logs import request_id
from core.queueing.names import QueueName

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job whose end is committed, and the tokens that count for its key."""

    id: UUID
    api_key_id: UUID
    used_tokens: int
    queue: str
    state: str
    request_id: str


#: Receives the queue and state of ended jobs, and their number.
CountEnds = Callable[[str, str, int], None]


class EndAnnouncer:
    def __init__(
        self, client: redis.Redis, *, count: CountEnds = lambda queue, state, jobs: None
    ) -> None:
        self._client = client
        self._limiter = Limiter(client)
        self._count = count

    def announce(
        self,
        ended: Iterable[EndedJob],
        *,
        also: Callable[[Pipeline], None] = lambda pipe: None,
        is_logged: bool = False,
    ) -> None:
        """Settle the limits of ended jobs, then publish their ends.

        Limits are settled first: a notified client may immediately send its next request.

        Args:
            also: adds commands to the pipeline that must run before the ends are published; may be
                called twice.
            is_logged: the caller logs each job itself.

        If Redis is away, nothing is lost: waiting requests read the row, and
        `worker/maintenance/limit_reconciler.py` settles the limits.
        """
        jobs = list(ended)
        if not jobs:
            return
        for job in jobs:
            self._count(job.queue, job.state, 1)
            if not is_logged:
                _log_end(job)
        try:
            try:
                self._announce(jobs, also)
            except redis.exceptions.NoScriptError:
                self._limiter.load()
                self._announce(jobs, also)
        except redis.RedisError as error:
            _log.warning("ends could not be announced: %s", type(error).__name__)

    def announce_held(self, job_ids: Sequence[UUID], state: str) -> None:
        """Publish the ends of batch lines that ended while they were held.

        Nothing is settled, because nothing was charged for them.
        """
        if not job_ids:
            return
        self._count(QueueName.BULK, state, len(job_ids))
        _log.info("lines", extra={"state": state, "lines": len(job_ids)})
        try:
            publish_ends(self._client, job_ids)
        except redis.RedisError:
            _log.warning("ends could not be published: waiting requests read the rows")

    def _announce(self, jobs: list[EndedJob], also: Callable[[Pipeline], None]) -> None:
        with self._client.pipeline(transaction=False) as pipe:
            for job in jobs:
                self._limiter.settle(job.api_key_id, job.id, job.used_tokens, pipe=pipe)
            also(pipe)
            publish_ends(pipe, [job.id for job in jobs])
            pipe.execute()


def _log_end(job: EndedJob) -> None:
    """Log a job that ended without a worker, under the id of the request that made it."""
    token = request_id.set(job.request_id)
    try:
        fields = {"job": job.id.hex, "key": job.api_key_id.hex, "state": job.state}
        _log.info("job", extra=fields)
    finally:
        request_id.reset(token)
