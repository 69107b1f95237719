"""Brings back what was lost: jobs whose worker fell silent, and jobs that are on no queue.

Every worker runs one; two at once do no harm, since each change is conditional.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from uuid import UUID

import redis

from core.job_ends import publish_end
from core.queue import JobQueue, QueueName
from models.base import DATABASE_AWAY, Session, SessionFactory, utc_now
from models.job import (
    Job,
    JobOutcome,
    JobState,
    expired_for_good,
    finish_job,
    queued_before,
    requeue_expired,
)
from models.job_end import record_end

_log = logging.getLogger(__name__)

#: Rows looked at in one pass, at most.
PASS_LIMIT = 1000
#: A job is sent right after its commit: only what is older can have been lost.
GRACE = timedelta(seconds=3)


class Reaper:
    def __init__(
        self,
        *,
        sessions: SessionFactory,
        client: redis.Redis,
        max_attempts: int,
        grace: timedelta = GRACE,
    ) -> None:
        self._sessions = sessions
        self._client = client
        self._queue = JobQueue(client)
        self._max_attempts = max_attempts
        self._grace = grace
        self._seen_to: UUID | None = None

    def reap(self) -> None:
        """Make one pass. With the database or Redis away it does nothing: the next one will."""
        try:
            self._requeue_silent()
            self._fail_exhausted()
            self._resend_lost()
        except DATABASE_AWAY:
            _log.warning("nothing reaped: the database is away")
        except redis.RedisError:
            _log.warning("nothing reaped: Redis is away")

    def _requeue_silent(self) -> None:
        with self._sessions.begin() as session:
            requeued = requeue_expired(session, max_attempts=self._max_attempts, limit=PASS_LIMIT)
        for job in requeued:
            _log.warning("worker fell silent, job goes back", extra={"job": job.id.hex})
        self._send_missing(requeued)

    def _fail_exhausted(self) -> None:
        with self._sessions.begin() as session:
            exhausted = expired_for_good(session, max_attempts=self._max_attempts, limit=PASS_LIMIT)
            failed = [job for job in exhausted if self._fail(session, job)]
        for job in failed:
            _log.error("job failed in its last attempt", extra={"job": job.id.hex})
            publish_end(self._client, job.id)

    def _fail(self, session: Session, job: Job) -> bool:
        error = {
            "code": "worker_lost",
            "message": f"the worker died in each of {job.attempt} attempts",
        }
        outcome = JobOutcome(state=JobState.FAILED, error=error, prompt_tokens=job.prompt_tokens)
        ended = finish_job(session, job.id, attempt=job.attempt, outcome=outcome, is_silent=True)
        if ended is None:
            return False
        record_end(session, ended)
        return True

    def _resend_lost(self) -> None:
        """Go through the queued rows, a part in each pass, and send what is on no queue."""
        with self._sessions() as session:
            jobs = queued_before(
                session, utc_now() - self._grace, after=self._seen_to, limit=PASS_LIMIT
            )
        self._seen_to = jobs[-1].id if len(jobs) == PASS_LIMIT else None
        self._send_missing(jobs)

    def _send_missing(self, jobs: list[Job]) -> None:
        for queue in QueueName:
            ids = [job.id for job in jobs if job.queue == queue]
            if not ids:
                continue
            for job_id in self._queue.missing(ids, queue):
                _log.warning("job was on no queue, sent again", extra={"job": job_id.hex})
                self._queue.send(job_id, queue)
