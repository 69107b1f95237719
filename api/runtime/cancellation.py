"""Ends jobs that their callers want no more: many at once, when many clients go away together."""

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
from models.jobs.transitions import forestall_jobs
from models.usage.limits import ended_job

_log = logging.getLogger(__name__)

#: How long a caller waits for its cancel to be written.
PATIENCE_SECONDS = 5.0
#: Jobs of keys that may not be used which one transaction cancels.
CHUNK = 500


class Cancels:
    """One greenlet of a process that cancels for all its requests."""

    def __init__(self, sessions: SessionFactory, client: redis.Redis, ends: EndAnnouncer) -> None:
        self._client = client
        self._ends = ends
        self._lock = threading.Lock()
        self._group: GroupCommit[Session, UUID | Job, Job] | None = None
        self._sessions = sessions

    def cancel(self, job_id: UUID) -> Job | None:
        """Cancel a job; returns it as it is then, or `None` if it had ended before.

        One that runs ends within moments, when its worker has heard of it.

        Raises:
            Unavailable: the database is away; the job is cancelled when it is back.
        """
        try:
            return self._started().make(job_id, seconds=PATIENCE_SECONDS)
        except TimeoutError:
            raise Unavailable(
                "the database is away, the job is cancelled when it is back",
                code="database_unavailable",
            ) from None

    def abandon(self, job_id: UUID) -> None:
        """Cancel the job of a client that went away, as soon as that can be done."""
        self._started().start_making(job_id)

    def forestall(self, job: Job) -> None:
        """Cancel a job whose row may have come or be on its way, as soon as that can be done; its
        charge stands until then.
        """
        self._started().start_making(job)

    def cancel_unusable(self) -> None:
        """Cancel the open jobs of keys that may not be used any more; nobody waits for it.

        What is left undone, because a part is away or this process ends, the reaper does.
        """
        threading.Thread(target=self._cancel_unusable, name="unusable", daemon=True).start()

    def _cancel_unusable(self) -> None:
        try:
            while True:
                with self._sessions.begin() as session:
                    cancelled = cancel_unusable_jobs(session, limit=CHUNK)
                self._tell(cancelled)
                if not cancelled:
                    return
        except DATABASE_AWAY:
            _log.warning("the database is away: the reaper cancels jobs of keys that are off")

    def _started(self) -> GroupCommit[Session, UUID | Job, Job]:
        with self._lock:
            if self._group is None:
                self._group = GroupCommit(
                    "cancels",
                    self._sessions,
                    self._write,
                    committed=self._tell,
                    must_leave=threading.Event(),
                )
                self._group.start()
            return self._group

    def _write(self, session: Session, wanted: Sequence[UUID | Job]) -> list[Job | None]:
        jobs = [one for one in wanted if isinstance(one, Job)]
        job_ids = [one.id if isinstance(one, Job) else one for one in wanted]
        added = forestall_jobs(session, jobs) if jobs else []
        found = {job.id: job for job in (*added, *cancel_jobs(session, job_ids))}
        return [found.get(job_id) for job_id in job_ids]

    def _tell(self, jobs: Sequence[Job | None]) -> None:
        self._ends.announce(ended_job(job) for job in jobs if job is not None and job.is_final)
        send_cancels(self._client, [job.id for job in jobs if job is not None and not job.is_final])
