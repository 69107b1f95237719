"""The jobs that this worker holds: their leases are renewed in one statement while it lives."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from models.database.base import DATABASE_AWAY, SessionFactory
from models.execution.claims import hand_back_jobs, renew_leases
from worker.jobs.delivery import Answer

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Held:
    attempt: int
    answer: Answer | None = None
    must_cancel: bool = False


class Leases:
    """What this worker believes to be its own; the rows decide."""

    def __init__(self, sessions: SessionFactory, *, worker_id: str, lease: timedelta) -> None:
        self._sessions = sessions
        self._worker_id = worker_id
        self._lease = lease
        self._held: dict[UUID, _Held] = {}
        self._released = 0
        self._lock = threading.Lock()

    @property
    def released(self) -> int:
        """Jobs that were let go since the start."""
        return self._released

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, job_id: UUID, attempt: int) -> None:
        with self._lock:
            self._held[job_id] = _Held(attempt)

    def attach(self, job_id: UUID, attempt: int, answer: Answer) -> None:
        """Say which answer to cancel if the job turns out not to be ours any more.

        It may have ended, and its job been let go, before this is said.
        """
        with self._lock:
            held = self._held.get(job_id)
            is_held = held is not None and held.attempt == attempt
            if held is not None and is_held:
                held.answer = answer
                if not held.must_cancel:
                    return
        answer.cancel()

    def answer_of(self, job_id: UUID) -> Answer | None:
        """Return the answer of a job that runs here, once it has one."""
        with self._lock:
            held = self._held.get(job_id)
            return held.answer if held is not None else None

    def cancel(self, job_id: UUID) -> None:
        """End a job that its owner wants no more: it stays ours until its end is recorded."""
        with self._lock:
            held = self._held.get(job_id)
            if held is None:
                return
            held.must_cancel = True
        if held.answer is not None:
            held.answer.cancel()

    def is_cancelled(self, job_id: UUID) -> bool:
        """Say whether the owner of a job that runs here wants it no more."""
        with self._lock:
            held = self._held.get(job_id)
            return held is not None and held.must_cancel

    def release(self, job_id: UUID, attempt: int) -> None:
        """Let go of this attempt; a later one of the same job stays held."""
        if self._take(job_id, attempt) is not None:
            self._released += 1

    def holds_attempt(self, attempt: int) -> bool:
        """Say whether any job here is in its attempt of this number, or a later one."""
        with self._lock:
            return any(held.attempt >= attempt for held in self._held.values())

    def is_held(self, job_id: UUID, attempt: int) -> bool:
        with self._lock:
            held = self._held.get(job_id)
            return held is not None and held.attempt == attempt

    def renew(self) -> None:
        """Renew all leases; a job that was taken from us, or is to end, is cancelled in the engine.

        With the database away nothing is cancelled: nobody else can take the jobs either.
        """
        with self._lock:
            held = dict(self._held)
        if not held:
            return
        try:
            with self._sessions.begin() as session:
                ours = renew_leases(
                    session, list(held), worker_id=self._worker_id, lease=self._lease
                )
        except DATABASE_AWAY:
            _log.warning("leases could not be renewed: the database is away")
            return
        for job_id, one in held.items():
            mine = ours.get(job_id)
            if mine is None or mine.attempt != one.attempt:
                self._drop(job_id, one.attempt)
            elif mine.must_cancel and not one.must_cancel:
                self.cancel(job_id)

    def hand_back(self) -> int:
        """Return all jobs that still run to the queue, and cancel them here. Returns how many."""
        with self._lock:
            attempts = {job_id: held.attempt for job_id, held in self._held.items()}
        if not attempts:
            return 0
        try:
            with self._sessions.begin() as session:
                handed_back = hand_back_jobs(session, attempts, worker_id=self._worker_id)
        except DATABASE_AWAY:
            _log.warning("jobs could not be handed back: their leases will run out")
            handed_back = []
        for job_id, attempt in attempts.items():
            self._drop(job_id, attempt)
        return len(handed_back)

    def _take(self, job_id: UUID, attempt: int) -> _Held | None:
        with self._lock:
            held = self._held.get(job_id)
            if held is None or held.attempt != attempt:
                return None
            return self._held.pop(job_id)

    def _drop(self, job_id: UUID, attempt: int) -> None:
        held = self._take(job_id, attempt)
        if held is not None and held.answer is not None and not held.answer.wait(0):
            _log.warning("job is no longer ours", extra={"job": job_id.hex})
            held.answer.cancel()
