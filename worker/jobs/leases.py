"""The jobs that this worker holds; one statement renews all their leases."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from models.database.base import DATABASE_AWAY, SessionFactory
from models.execution.claims import hand_back_jobs, renew_leases
from worker.jobs.delivery import RunningGeneration

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _HeldJob:
    attempt: int
    generation: RunningGeneration | None = None
    must_cancel: bool = False


class Leases:
    """The jobs that this worker assumes to hold. The rows in the database decide."""

    def __init__(self, sessions: SessionFactory, *, worker_id: str, lease: timedelta) -> None:
        self._sessions = sessions
        self._worker_id = worker_id
        self._lease = lease
        self._held: dict[UUID, _HeldJob] = {}
        self._released = 0
        self._lock = threading.Lock()

    @property
    def released(self) -> int:
        """Jobs released since the start."""
        return self._released

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, job_id: UUID, attempt: int) -> None:
        with self._lock:
            self._held[job_id] = _HeldJob(attempt)

    def attach(self, job_id: UUID, attempt: int, generation: RunningGeneration) -> None:
        """Store the generation to cancel if the job is lost or cancelled.

        The generation may have ended, and its job been released, before this call.
        """
        with self._lock:
            held = self._held.get(job_id)
            is_held = held is not None and held.attempt == attempt
            if held is not None and is_held:
                held.generation = generation
                if not held.must_cancel:
                    return
        generation.cancel()

    def generation_of(self, job_id: UUID) -> RunningGeneration | None:
        """Return the generation of a job that runs here, once it has one."""
        with self._lock:
            held = self._held.get(job_id)
            return held.generation if held is not None else None

    def cancel(self, job_id: UUID) -> None:
        """Cancel a job for its owner. This worker holds it until its end is committed."""
        with self._lock:
            held = self._held.get(job_id)
            if held is None:
                return
            held.must_cancel = True
        if held.generation is not None:
            held.generation.cancel()

    def is_cancelled(self, job_id: UUID) -> bool:
        """Return whether the owner cancelled a job that runs here."""
        with self._lock:
            held = self._held.get(job_id)
            return held is not None and held.must_cancel

    def release(self, job_id: UUID, attempt: int) -> None:
        """Release this attempt; a later attempt of the same job stays held."""
        if self._pop(job_id, attempt) is not None:
            self._released += 1

    def holds_attempt(self, attempt: int) -> bool:
        """Return whether a held job is in its attempt of this number, or a later one."""
        with self._lock:
            return any(held.attempt >= attempt for held in self._held.values())

    def is_held(self, job_id: UUID, attempt: int) -> bool:
        with self._lock:
            held = self._held.get(job_id)
            return held is not None and held.attempt == attempt

    def renew(self) -> None:
        """Renew all leases; cancel jobs that were taken over or must be cancelled.

        With the database away it cancels nothing: no other worker can claim the jobs either.
        """
        with self._lock:
            held = dict(self._held)
        if not held:
            return
        try:
            with self._sessions.begin() as session:
                rows = renew_leases(
                    session, list(held), worker_id=self._worker_id, lease=self._lease
                )
        except DATABASE_AWAY:
            _log.warning("cannot renew leases: the database is away")
            return
        for job_id, job in held.items():
            row = rows.get(job_id)
            if row is None or row.attempt != job.attempt:
                self._drop(job_id, job.attempt)
            elif row.must_cancel and not job.must_cancel:
                self.cancel(job_id)

    def hand_back(self) -> int:
        """Requeue the rows of all running jobs and cancel them here; return how many."""
        with self._lock:
            attempts = {job_id: held.attempt for job_id, held in self._held.items()}
        if not attempts:
            return 0
        try:
            with self._sessions.begin() as session:
                handed_back = hand_back_jobs(session, attempts, worker_id=self._worker_id)
        except DATABASE_AWAY:
            _log.warning("cannot requeue running jobs, their leases will expire")
            handed_back = []
        for job_id, attempt in attempts.items():
            self._drop(job_id, attempt)
        return len(handed_back)

    def _pop(self, job_id: UUID, attempt: int) -> _HeldJob | None:
        with self._lock:
            held = self._held.get(job_id)
            if held is None or held.attempt != attempt:
                return None
            return self._held.pop(job_id)

    def _drop(self, job_id: UUID, attempt: int) -> None:
        held = self._pop(job_id, attempt)
        if held is not None and held.generation is not None and not held.generation.wait(0):
            _log.warning(
                "this worker no longer holds the job, it is dropped", extra={"job": job_id.hex}
            )
            held.generation.cancel()
