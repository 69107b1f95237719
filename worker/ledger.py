"""The worker's writes about its jobs: that it begins them, and how they end."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from core.job_ends import JobEnds
from models.base import Session, SessionFactory, commit_lazily
from models.flight import ended_job
from models.group_commit import GroupCommit, persist
from models.held_jobs import claim_jobs, find_ended, finish_jobs, hand_back_jobs
from models.job import Job, JobOutcome
from models.job_end import record_ends

_End = tuple[Job, JobOutcome]


class Ledger:
    """All calls wait for a database that is away, until `leave`."""

    def __init__(
        self, *, sessions: SessionFactory, ends: JobEnds, worker_id: str, lease: timedelta
    ) -> None:
        self._sessions = sessions
        self._ends = ends
        self._worker_id = worker_id
        self._lease = lease
        self._must_leave = threading.Event()
        self._claims: GroupCommit[UUID, Job] = GroupCommit(
            "claims", sessions, self._claim, must_leave=self._must_leave
        )
        self._finishes: GroupCommit[_End, Job] = GroupCommit(
            "ends",
            sessions,
            self._finish,
            committed=self._announce,
            must_leave=self._must_leave,
        )

    def start(self) -> None:
        self._claims.start()
        self._finishes.start()

    def leave(self) -> None:
        """The process is about to end: wait for the database no longer."""
        self._must_leave.set()

    def stop(self) -> None:
        """Write what waits, and stop."""
        self._claims.stop()
        self._finishes.stop()

    def claim(self, job_id: UUID) -> Job | None:
        """Take a queued job; `None` if there is nothing to take."""
        return self._claims.make(job_id)

    def finish(self, job: Job, outcome: JobOutcome) -> Job | None:
        """End a job of ours and record its usage; `None` if another worker has taken it over."""
        return self._finishes.make((job, outcome))

    def hand_back(self, job: Job) -> None:
        """Return a job to the queue, if it is still ours."""
        attempts = {job.id: job.attempt}
        persist(
            self._sessions,
            lambda session: hand_back_jobs(session, attempts, worker_id=self._worker_id),
            self._must_leave,
        )

    def _claim(self, session: Session, job_ids: Sequence[UUID]) -> list[Job | None]:
        # Not waited for to reach the disk: a server that forgets a claim in a crash has the job
        # queued again, and what this attempt makes of it is refused.
        commit_lazily(session)
        jobs = claim_jobs(session, job_ids, worker_id=self._worker_id, lease=self._lease)
        claimed: dict[UUID, Job] = {job.id: job for job in jobs}
        # A job that was delivered twice goes to the first who asked.
        return [claimed.pop(job_id, None) for job_id in job_ids]

    def _finish(self, session: Session, ends: Sequence[_End]) -> list[Job | None]:
        ended = finish_jobs(session, ends, worker_id=self._worker_id)
        record_ends(session, ended)
        by_id = {(job.id, job.attempt): job for job in ended}
        others = [job for job, _ in ends if (job.id, job.attempt) not in by_id]
        if others:
            # The commit of an end may have succeeded and only its answer been lost: what follows
            # from it was written, and is still to be told.
            for job in find_ended(session, others, worker_id=self._worker_id):
                by_id[job.id, job.attempt] = job
        return [by_id.pop((job.id, job.attempt), None) for job, _ in ends]

    def _announce(self, ended: Sequence[Job | None]) -> None:
        self._ends.announce(ended_job(job) for job in ended if job is not None)
