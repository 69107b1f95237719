"""What follows in Redis from the end of jobs, after its COMMIT: their limits are settled, and those
who wait are told.
"""

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


#: Takes the queue and state of jobs that ended, and how many did.
Count = Callable[[str, str, int], None]


class EndAnnouncer:
    def __init__(
        self, client: redis.Redis, *, count: Count = lambda queue, state, jobs: None
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
        """Settle, then tell: whoever is told may at once make the next request.

        Args:
            also: adds to the pipeline what else shall be there when they are told; it may be
                called twice.
            is_logged: whoever ended them writes the log's line of each.

        With Redis away nothing is lost: waiters look at the row, and
        `worker/maintenance/limit_reconciler.py` settles.
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
        """Tell who waits for lines of batches that ended while they were held.

        Nothing was charged for them.
        """
        if not job_ids:
            return
        self._count(QueueName.BULK, state, len(job_ids))
        _log.info("lines", extra={"state": state, "lines": len(job_ids)})
        try:
            publish_ends(self._client, job_ids)
        except redis.RedisError:
            _log.warning("ends could not be told: whoever waits looks at the row")

    def _announce(self, jobs: list[EndedJob], also: Callable[[Pipeline], None]) -> None:
        with self._client.pipeline(transaction=False) as pipe:
            for job in jobs:
                self._limiter.settle(job.api_key_id, job.id, job.used_tokens, pipe=pipe)
            also(pipe)
            publish_ends(pipe, [job.id for job in jobs])
            pipe.execute()


def _log_end(job: EndedJob) -> None:
    """Write the line of a job that ended without a worker, under the request that made it."""
    token = request_id.set(job.request_id)
    try:
        said = {"job": job.id.hex, "key": job.api_key_id.hex, "state": job.state}
        _log.info("job", extra=said)
    finally:
        request_id.reset(token)
