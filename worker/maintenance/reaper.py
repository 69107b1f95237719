"""Brings back what was lost: jobs whose worker fell silent, and jobs that are on no queue. Ends
those that nobody will: silent ones that shall not begin again, and those whose time is over.

Every worker runs one; two at once do no harm, since each change is conditional.
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
from models.batches.rejected import forget_old_refusals
from models.database.base import DATABASE_AWAY, Session, SessionFactory, database_now
from models.execution.completion import cancel_unusable_jobs, record_ends
from models.files.store import forget_expired
from models.jobs.idempotency import forget_old_keys
from models.jobs.job import Job, JobOutcome, JobState
from models.jobs.lists import QueuedJob, queued_before
from models.jobs.transitions import expire_queued, expired_for_good, finish_job, requeue_expired
from models.usage.limits import ended_job
from worker.maintenance.guard import Guard, is_expected

_log = logging.getLogger(__name__)

#: Rows looked at in one pass, at most.
PASS_LIMIT = 1000
#: A job is sent right after its commit: only what is older can have been lost.
GRACE = timedelta(seconds=3)
#: Between two looks for jobs of keys that were ended.
UNUSABLE_SECONDS = 5.0
#: Nothing to report: the next pass does what this one could not.
_AWAY = (*DATABASE_AWAY, redis.RedisError)
#: Jobs that cannot be ended hold up those that can for no longer.
LONGEST_REST_SECONDS = 5.0


class _EndJobs(Protocol):
    """Ends so many jobs at most, beyond so many that it leaves out, and returns them."""

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
        failed: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._sessions = sessions
        self._client = client
        self._queue = JobQueue(client)
        self._ends = ends or EndAnnouncer(client)
        self._max_attempts = max_attempts
        self._grace = grace
        self._lease_seconds = lease.total_seconds()
        self._passed_at: float | None = None
        self._trusted_at = float("-inf")
        self._seen_to: UUID | None = None
        self._looks_for_unusable_at = float("-inf")
        judging = (self._requeue_silent, self._end_silent)
        others = (
            self._expire_queued,
            self._cancel_unusable,
            self._resend_lost,
            partial(self._forget, forget_old_keys),
            partial(self._forget, forget_expired),
            partial(self._forget, forget_old_refusals),
            partial(self._forget, forget_old_sessions),
        )
        self._judging = [(step, _guard(failed)) for step in judging]
        self._others = [(step, _guard(failed)) for step in others]

    def reap(self) -> None:
        """Make one pass. With the database or Redis away it does nothing: the next one will.

        A step that raises something else is left alone for a while, and the others go on.
        """
        try:
            steps = [*self._judging, *self._others] if self._may_judge() else self._others
            for step, guard in steps:
                if not guard.is_resting:
                    with guard:
                        step()
            self._passed_at = time.monotonic()
        except DATABASE_AWAY:
            self._trusted_at = time.monotonic() + self._lease_seconds
            _log.warning("nothing reaped: the database is away")
        except redis.RedisError:
            _log.warning("nothing reaped: Redis is away")

    def _may_judge(self) -> bool:
        """Whether who is silent may be believed dead.

        While the database is away nobody can renew a lease: those that live get as long as a lease
        to do so when it is back. The same holds after a pause of this process itself.
        """
        now = time.monotonic()
        if self._passed_at is not None and now - self._passed_at > self._lease_seconds / 2:
            self._trusted_at = max(self._trusted_at, now + self._lease_seconds)
            self._passed_at = now
        return now >= self._trusted_at

    def _forget(self, step: Callable[[Session], object]) -> None:
        with self._sessions.begin() as session:
            step(session)

    def _requeue_silent(self) -> None:
        with self._sessions.begin() as session:
            requeued = requeue_expired(session, max_attempts=self._max_attempts, limit=PASS_LIMIT)
        for job in requeued:
            _log.warning("worker fell silent, job goes back", extra={"job": job.id.hex})
        self._send_missing(QueuedJob(job.id, job.queue) for job in requeued)

    def _end_silent(self) -> None:
        def end(session: Session, *, limit: int, offset: int) -> list[Job]:
            most = self._max_attempts
            silent = expired_for_good(session, max_attempts=most, limit=limit, offset=offset)
            ended = [job for job in silent if _end(session, job)]
            for job in ended:
                _log.error("job ended without its worker", extra={"job": job.id.hex})
            return ended

        self._end_all(end)

    def _expire_queued(self) -> None:
        self._end_all(expire_queued)

    def _end_all(self, end: _EndJobs) -> None:
        """End jobs together; where that fails, one by one, so that only those at fault stay.

        Raises:
            ExceptionGroup: what was wrong with each that stays.
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
            # Broad on purpose: a fault of one job must not hold up the others.
            _log.warning("jobs cannot be ended together, each is ended alone", exc_info=True)
            _one_by_one(step)

    def _cancel_unusable(self) -> None:
        """Cancel jobs of keys that were ended, if the API process that ended them did not.

        It looks at all that is open, and so now and then only.
        """
        now = time.monotonic()
        if now < self._looks_for_unusable_at:
            return
        self._looks_for_unusable_at = now + UNUSABLE_SECONDS
        with self._sessions.begin() as session:
            cancelled = cancel_unusable_jobs(session, limit=PASS_LIMIT)
        self._ends.announce(ended_job(job) for job in cancelled if job.is_final)
        if running := [job.id for job in cancelled if not job.is_final]:
            send_cancels(self._client, running)

    def _resend_lost(self) -> None:
        """Go through the queued rows, a part in each pass, and send what is on no queue."""
        with self._sessions() as session:
            before = database_now(session) - self._grace
            jobs = queued_before(session, before, after=self._seen_to, limit=PASS_LIMIT)
        self._seen_to = jobs[-1].id if len(jobs) == PASS_LIMIT else None
        self._send_missing(jobs)

    def _send_missing(self, jobs: Iterable[QueuedJob]) -> None:
        waiting = list(jobs)
        for queue in QueueName:
            ids = [job.id for job in waiting if job.queue == queue]
            if not ids:
                continue
            for job_id in self._queue.missing(ids, queue):
                _log.warning("job was on no queue, sent again", extra={"job": job_id.hex})
                self._queue.send(job_id, queue)


def _one_by_one(step: Callable[[int, int], int]) -> None:
    faults: list[Exception] = []
    for _ in range(PASS_LIMIT):
        try:
            if not step(1, len(faults)):
                break
        except Exception as fault:
            if is_expected(fault, _AWAY):
                raise
            faults.append(fault)
    if faults:
        raise ExceptionGroup("jobs that could not be ended", faults)


def _guard(failed: Callable[[str], None]) -> Guard:
    return Guard(
        "reaper", failed=failed, lets_pass=_AWAY, longest_rest_seconds=LONGEST_REST_SECONDS
    )


def _end(session: Session, job: Job) -> bool:
    """End a job without its worker; False if it is not silent any more."""
    outcome = JobOutcome(state=JobState.CANCELLED, prompt_tokens=job.prompt_tokens)
    if job.cancel_requested_at is None:
        message = f"the worker died in each of {job.attempt} attempts"
        error = {"code": "worker_lost", "message": message}
        outcome = replace(outcome, state=JobState.FAILED, error=error)
    return (
        finish_job(session, job.id, attempt=job.attempt, outcome=outcome, is_silent=True)
        is not None
    )
