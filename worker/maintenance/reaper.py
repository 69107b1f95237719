"""Requeues jobs whose lease expired, and sends queued jobs that are on no queue.

It ends jobs whose last attempt is over, and queued jobs whose time is over.

Every worker runs a reaper; two at once do no harm, since each change is conditional.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Protocol
from uuid import UUID

import redis

from core.completion.announce import EndAnnouncer
from core.events.job_commands import send_cancels
from core.queueing.broker import JobQueue
from core.queueing.names import QueueName
from models.accounts.session import forget_old_sessions
from models.batches.rejected import delete_expired_rejections
from models.database.base import DATABASE_AWAY, Session, SessionFactory, database_now
from models.execution.completion import cancel_unusable_jobs, record_ends
from models.files.store import delete_expired_files
from models.jobs.idempotency import delete_expired_idempotency_keys
from models.jobs.job import Job, JobState
from models.jobs.lists import QueuedJob, queued_before
from models.jobs.outcome import JobOutcome
from models.jobs.transitions import (
    expire_queued,
    finish_job,
    list_abandoned_jobs,
    requeue_silent_jobs,
)
from models.usage.limits import ended_job
from worker.maintenance.guard import Guard, is_expected

_log = logging.getLogger(__name__)

#: Most rows that one step of a pass reads.
PASS_LIMIT = 1000
#: A job is sent right after its commit: only an older job can be missing from its queue.
GRACE = timedelta(seconds=3)
#: Time between two searches for jobs of keys that were deleted or switched off.
UNUSABLE_SECONDS = 5.0
#: Expected errors: the next pass does the work.
_AWAY = (*DATABASE_AWAY, redis.RedisError)
#: Longest delay of other jobs after jobs that cannot be ended.
MAX_BACKOFF_SECONDS = 5.0


class _EndJobs(Protocol):
    """Skips `offset` jobs, ends up to `limit` jobs, and returns them."""

    def __call__(self, session: Session, *, limit: int, offset: int) -> list[Job]: ...


class Reaper:
    def __init__(
        self,
        *,
        sessions: SessionFactory,
        client: redis.Redis,
        max_attempts: int,
        lease: timedelta,
        ends: EndAnnouncer | None = None,
        grace: timedelta = GRACE,
        count_failure: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._sessions = sessions
        self._client = client
        self._queue = JobQueue(client)
        self._ends = ends or EndAnnouncer(client)
        self._max_attempts = max_attempts
        self._grace = grace
        self._lease_seconds = lease.total_seconds()
        self._last_pass_at: float | None = None
        self._trusted_at = float("-inf")
        self._resent_to: UUID | None = None
        self._next_unusable_at = float("-inf")
        lease_steps = (self._requeue_expired, self._end_expired)
        others = (
            self._expire_queued,
            self._cancel_unusable,
            self._resend_lost,
            partial(self._forget, delete_expired_idempotency_keys),
            partial(self._forget, delete_expired_files),
            partial(self._forget, delete_expired_rejections),
            partial(self._forget, forget_old_sessions),
        )
        self._lease_steps = [(step, _guard(count_failure)) for step in lease_steps]
        self._others = [(step, _guard(count_failure)) for step in others]

    def reap(self) -> None:
        """Make one pass. With a server away, leave the work to the next pass.

        After any other error a step is skipped for some time, and the others continue.
        """
        try:
            steps = (
                [*self._lease_steps, *self._others] if self._may_trust_leases() else self._others
            )
            for step, guard in steps:
                if not guard.is_backing_off:
                    with guard:
                        step()
            self._last_pass_at = time.monotonic()
        except DATABASE_AWAY:
            self._trusted_at = time.monotonic() + self._lease_seconds
            _log.warning("cannot reap: the database is away")
        except redis.RedisError:
            _log.warning("cannot reap: Redis is away")

    def _may_trust_leases(self) -> bool:
        """Return whether an expired lease proves that its worker is dead.

        While the database is away, no worker can renew a lease. When it is back, living workers get
        the time of one lease to renew theirs. The same holds after a pause of this process.
        """
        now = time.monotonic()
        if self._last_pass_at is not None and now - self._last_pass_at > self._lease_seconds / 2:
            self._trusted_at = max(self._trusted_at, now + self._lease_seconds)
            self._last_pass_at = now
        return now >= self._trusted_at

    def _forget(self, step: Callable[[Session], object]) -> None:
        with self._sessions.begin() as session:
            step(session)

    def _requeue_expired(self) -> None:
        with self._sessions.begin() as session:
            requeued = requeue_silent_jobs(
                session, max_attempts=self._max_attempts, limit=PASS_LIMIT
            )
        for job in requeued:
            _log.warning("the lease expired, the job is requeued", extra={"job": job.id.hex})
        self._send_missing(QueuedJob(job.id, job.queue) for job in requeued)

    def _end_expired(self) -> None:
        def end(session: Session, *, limit: int, offset: int) -> list[Job]:
            jobs = list_abandoned_jobs(
                session, max_attempts=self._max_attempts, limit=limit, offset=offset
            )
            ended = [job for job in jobs if _end(session, job)]
            for job in ended:
                _log.error("the worker died, the job is ended", extra={"job": job.id.hex})
            return ended

        self._end_all(end)

    def _expire_queued(self) -> None:
        self._end_all(expire_queued)

    def _end_all(self, end: _EndJobs) -> None:
        """End jobs together; after an error, one by one, to isolate the jobs at fault.

        Raises:
            ExceptionGroup: the error of each job that could not be ended.
        """

        def step(limit: int, offset: int) -> int:
            with self._sessions.begin() as session:
                ended = end(session, limit=limit, offset=offset)
                record_ends(session, ended)
            self._ends.announce(ended_job(job) for job in ended)
            return len(ended)

        try:
            step(PASS_LIMIT, 0)
        except Exception as error:
            if is_expected(error, _AWAY):
                raise
            # Broad on purpose: an error of one job must not delay the others.
            _log.warning("cannot end jobs together, retrying each job alone", exc_info=True)
            _one_by_one(step)

    def _cancel_unusable(self) -> None:
        """Cancel jobs of unusable keys that the API process left.

        Runs every `UNUSABLE_SECONDS` only, because it scans all open jobs.
        """
        now = time.monotonic()
        if now < self._next_unusable_at:
            return
        self._next_unusable_at = now + UNUSABLE_SECONDS
        with self._sessions.begin() as session:
            cancelled = cancel_unusable_jobs(session, limit=PASS_LIMIT)
        self._ends.announce(ended_job(job) for job in cancelled if job.is_final)
        if running := [job.id for job in cancelled if not job.is_final]:
            send_cancels(self._client, running)

    def _resend_lost(self) -> None:
        """Scan queued rows, one part in each pass; send jobs that are on no queue."""
        with self._sessions() as session:
            before = database_now(session) - self._grace
            jobs = queued_before(session, before, after=self._resent_to, limit=PASS_LIMIT)
        self._resent_to = jobs[-1].id if len(jobs) == PASS_LIMIT else None
        self._send_missing(jobs)

    def _send_missing(self, jobs: Iterable[QueuedJob]) -> None:
        waiting = list(jobs)
        for queue in QueueName:
            ids = [job.id for job in waiting if job.queue == queue]
            if not ids:
                continue
            for job_id in self._queue.missing(ids, queue):
                _log.warning("the job was on no queue, it is sent again", extra={"job": job_id.hex})
                self._queue.send(job_id, queue)


def _one_by_one(step: Callable[[int, int], int]) -> None:
    errors: list[Exception] = []
    for _ in range(PASS_LIMIT):
        try:
            if not step(1, len(errors)):
                break
        except Exception as error:
            if is_expected(error, _AWAY):
                raise
            errors.append(error)  # broad on purpose: an error of one job must not delay the others
    if errors:
        raise ExceptionGroup("jobs that could not be ended", errors)


def _guard(count_failure: Callable[[str], None]) -> Guard:
    return Guard(
        "reaper",
        count_failure=count_failure,
        expected=_AWAY,
        max_backoff_seconds=MAX_BACKOFF_SECONDS,
    )


def _end(session: Session, job: Job) -> bool:
    """End a job whose lease expired; return False if the lease was renewed since."""
    outcome = JobOutcome(state=JobState.CANCELLED, prompt_tokens=job.prompt_tokens)
    if job.cancel_requested_at is None:
        message = f"the worker died in each of {job.attempt} attempts"
        error = {"code": "worker_lost", "message": message}
        outcome = replace(outcome, state=JobState.FAILED, error=error)
    return (
        finish_job(session, job.id, attempt=job.attempt, outcome=outcome, is_silent=True)
        is not None
    )
