"""Cancels jobs whose callers no longer want them, many of them in one transaction."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from uuid import UUID

import redis

from core.completion.announce import EndAnnouncer
from core.errors import Unavailable
from core.events.job_commands import send_cancels
from models.database.base import DATABASE_AWAY, Session, SessionFactory
from models.database.group_commit import GroupCommit
from models.execution.completion import cancel_jobs, cancel_unusable_jobs
from models.jobs.job import Job
from models.jobs.transitions import insert_cancelled_jobs
from models.usage.limits import ended_job

_log = logging.getLogger(__name__)

#: How long a caller waits until its cancellation is committed.
CANCEL_TIMEOUT_SECONDS = 5.0
#: Jobs of unusable keys that one transaction cancels.
CHUNK = 500


class JobCancellation:
    """Cancels jobs for all requests of a process, in one greenlet."""

    def __init__(self, sessions: SessionFactory, client: redis.Redis, ends: EndAnnouncer) -> None:
        self._client = client
        self._ends = ends
        self._lock = threading.Lock()
        self._group: GroupCommit[Session, UUID | Job, Job] | None = None
        self._sessions = sessions

    def cancel(self, job_id: UUID) -> Job | None:
        """Cancel a job; returns its new state, or `None` if it had already ended.

        A running job ends moments later, when its worker receives the request to cancel.

        Raises:
            Unavailable: the database is away; the job is cancelled when it is back.
        """
        try:
            return self._started().make(job_id, seconds=CANCEL_TIMEOUT_SECONDS)
        except TimeoutError:
            raise Unavailable(
                "the database is away; the job is cancelled when it is back",
                code="database_unavailable",
            ) from None

    def abandon(self, job_id: UUID) -> None:
        """Cancel the job of a client that disconnected, as soon as possible."""
        self._started().submit(job_id)

    def forestall(self, job: Job) -> None:
        """Cancel a job whose INSERT may still arrive, as soon as possible.

        The job stays charged until then.
        """
        self._started().submit(job)

    def cancel_unusable(self) -> None:
        """Cancel the open jobs of unusable keys, on a separate thread.

        The reaper cancels the rest if the database is away or this process ends.
        """
        threading.Thread(target=self._cancel_unusable, name="unusable", daemon=True).start()

    def _cancel_unusable(self) -> None:
        try:
            while True:
                with self._sessions.begin() as session:
                    cancelled = cancel_unusable_jobs(session, limit=CHUNK)
                self._announce(cancelled)
                if not cancelled:
                    return
        except DATABASE_AWAY:
            _log.warning("the database is away: the reaper cancels the jobs of unusable keys")

    def _started(self) -> GroupCommit[Session, UUID | Job, Job]:
        with self._lock:
            if self._group is None:
                self._group = GroupCommit(
                    "cancels",
                    self._sessions,
                    self._write,
                    committed=self._announce,
                    must_leave=threading.Event(),
                )
                self._group.start()
            return self._group

    def _write(self, session: Session, wanted: Sequence[UUID | Job]) -> list[Job | None]:
        jobs = [item for item in wanted if isinstance(item, Job)]
        job_ids = [item.id if isinstance(item, Job) else item for item in wanted]
        added = insert_cancelled_jobs(session, jobs) if jobs else []
        found = {job.id: job for job in (*added, *cancel_jobs(session, job_ids))}
        return [found.get(job_id) for job_id in job_ids]

    def _announce(self, jobs: Sequence[Job | None]) -> None:
        self._ends.announce(ended_job(job) for job in jobs if job is not None and job.is_final)
        send_cancels(self._client, [job.id for job in jobs if job is not None and not job.is_final])
