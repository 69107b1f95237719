"""Writes the claims and the ends of this worker's jobs to the database.

Two threads, one for claims and one for ends, so that claims never wait behind ends. Writes that
arrive while one group commits form the next group. No caller waits: a callback continues the job.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial

from redis.client import Pipeline

from core.completion.announce import EndAnnouncer
from models.database.base import Session, SessionFactory
from models.database.group_commit import GroupCommit
from models.database.prepared import Statements
from models.execution.claims import claim_jobs, hand_back_jobs
from models.execution.completion import record_ends
from models.execution.finish import find_ended, finish_at_once, finish_jobs, follows_only_usage
from models.jobs.job import Job, JobState
from models.jobs.outcome import JobOutcome
from models.usage.limits import ended_job
from worker.jobs.outcome import make_outcome
from worker.jobs.run import JobMessage, Run

_log = logging.getLogger(__name__)

#: Receives the written run, `None` if nothing was written, or the error. On the ledger's thread.
OnWritten = Callable[[Run | None, Exception | None], None]


class Ledger:
    """Writes claims and ends. Waits for a database that is away, until `leave`.

    Args:
        statements: connections for claims, and for ends that write nothing but usage.
        cache: adds entries for ended jobs to a pipeline, before their ends are published.
        observe: receives the jobs whose ends were committed, before they are published.
        on_lines_changed: called when lines of batches have started or ended.
        max_attempts: most attempts of a job; 0 for no limit.
        holds_attempt: returns whether this worker holds a job in its attempt of this number, or a
            later one.
    """

    def __init__(
        self,
        *,
        sessions: SessionFactory,
        statements: Statements,
        ends: EndAnnouncer,
        worker_id: str,
        lease: timedelta,
        cache: Callable[[Sequence[Job], Pipeline], None] = lambda jobs, pipe: None,
        observe: Callable[[Sequence[Job]], None] = lambda jobs: None,
        on_lines_changed: Callable[[], None] = lambda: None,
        max_attempts: int = 0,
        holds_attempt: Callable[[int], bool] = lambda attempt: False,
    ) -> None:
        self._sessions = sessions
        self._ends = ends
        self._worker_id = worker_id
        self._lease = lease
        self._cache = cache
        self._observe = observe
        self._on_lines_changed = on_lines_changed
        self._max_attempts = max_attempts
        self._holds_attempt = holds_attempt
        self._must_leave = threading.Event()
        self._claims: GroupCommit[Statements, JobMessage, Run] = GroupCommit(
            "claims",
            _AutoCommitSessions(statements),
            self._write_claims,
            committed=self._notify_of_lines,
            must_leave=self._must_leave,
        )
        self._finishes: GroupCommit[Statements, Run, Run] = GroupCommit(
            "ends",
            _AutoCommitSessions(statements),
            self._write_ends,
            committed=self._announce,
            must_leave=self._must_leave,
        )

    def start(self) -> None:
        self._claims.start()
        self._finishes.start()

    def leave(self) -> None:
        """Stop waiting for the database, because the process is about to end."""
        self._must_leave.set()

    def stop(self) -> None:
        """Write the waiting claims and ends, and stop."""
        self._claims.stop()
        self._finishes.stop()

    def claim(self, message: JobMessage, then: OnWritten) -> None:
        """Claim a queued job; nothing is written if it cannot be claimed any more."""
        self._claims.submit_then(message, then)

    def finish(self, run: Run, then: OnWritten) -> None:
        """End a job and record its usage, or requeue its row if it `must_requeue`.

        Nothing is written if another worker has taken the job over.
        """
        self._finishes.submit_then(run, then)

    def _write_claims(
        self, statements: Statements, messages: Sequence[JobMessage]
    ) -> list[Run | None]:
        job_ids = [message.job_id for message in messages]
        jobs = claim_jobs(
            statements,
            job_ids,
            worker_id=self._worker_id,
            lease=self._lease,
            max_attempts=self._max_attempts,
            may_be_last=not self._holds_attempt(self._max_attempts),
        )
        claimed: dict[object, Job] = {job.id: job for job in jobs}
        # A job that was delivered twice belongs to its first message.
        return [
            Run(message, job) if (job := claimed.pop(message.job_id, None)) is not None else None
            for message in messages
        ]

    def _write_ends(self, statements: Statements, runs: Sequence[Run]) -> list[Run | None]:
        if any(run.must_requeue or not follows_only_usage(run.job) for run in runs):
            with self._sessions.begin() as session:
                ended = self._finish(session, runs)
        else:
            ends = [(run.job, self._outcome(run)) for run in runs]
            ended = finish_at_once(statements, ends, worker_id=self._worker_id)
        by_id = {(job.id, job.attempt): job for job in ended}
        others = [
            run.job
            for run in runs
            if not run.must_requeue and (run.job.id, run.job.attempt) not in by_id
        ]
        if others:
            # The commit of an end may have succeeded, and only its reply been lost: the end still
            # has to be published.
            with self._sessions() as session:
                for job in find_ended(session, others, worker_id=self._worker_id):
                    by_id[job.id, job.attempt] = job
        for run in runs:
            run.ended = by_id.pop((run.job.id, run.job.attempt), None)
        return [run if run.must_requeue or run.ended is not None else None for run in runs]

    def _finish(self, session: Session, runs: Sequence[Run]) -> list[Job]:
        back = {run.job.id: run.job.attempt for run in runs if run.must_requeue}
        if back:
            hand_back_jobs(session, back, worker_id=self._worker_id)
        ends = [(run.job, self._outcome(run)) for run in runs if not run.must_requeue]
        if not ends:
            return []
        ended = finish_jobs(session, ends, worker_id=self._worker_id)
        record_ends(session, ended)
        return ended

    def _outcome(self, run: Run) -> JobOutcome:
        """Return how a job ends; compute it once, even if the write is retried."""
        if run.outcome is None:
            with run.logging():
                run.outcome = self._compute_outcome(run)
        return run.outcome

    def _compute_outcome(self, run: Run) -> JobOutcome:
        try:
            if run.generation is None:
                raise ValueError("the job has neither a generation nor an outcome")
            return make_outcome(run.generation, run.prompt_tokens)
        except Exception:
            # A retry would fail again, and count as the death of a worker.
            _log.exception("job failed", extra={"job": run.job.id.hex})
            return failed_outcome("internal_error", "something went wrong on our side")

    def _announce(self, runs: Sequence[Run | None]) -> None:
        jobs = [run.ended for run in runs if run is not None and run.ended is not None]
        self._observe(jobs)
        also = partial(self._cache, jobs)
        self._ends.announce(map(ended_job, jobs), also=also, is_logged=True)
        self._notify_of_lines(runs)

    def _notify_of_lines(self, runs: Sequence[Run | None]) -> None:
        if any(run is not None and run.job.batch_id is not None for run in runs):
            self._on_lines_changed()


class _AutoCommitSessions:
    """Replaces sessions where a change is one statement that commits by itself."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def begin(self) -> AbstractContextManager[Statements]:
        return nullcontext(self._statements)


def failed_outcome(code: str, message: str) -> JobOutcome:
    """Return the outcome of a job that failed outside the engine."""
    return JobOutcome(state=JobState.FAILED, error={"code": code, "message": message})
