"""The worker's writes about its jobs: that it begins them, and how they end.

Two threads, one for each: claims never wait behind ends. What gathers while one group is committed
is the next group. Nobody waits for a write: whoever asks for one says what follows from it.
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
from models.execution.claims import (
    claim_jobs,
    find_ended,
    finish_at_once,
    finish_jobs,
    follows_only_usage,
    hand_back_jobs,
)
from models.execution.completion import record_ends
from models.jobs.job import Job, JobOutcome, JobState
from models.usage.limits import ended_job
from worker.jobs.outcome import outcome_of
from worker.jobs.run import Run, Taken

_log = logging.getLogger(__name__)

#: Takes what was written, `None` if nothing was, or why it could not be. On the ledger's thread.
Then = Callable[[Run | None, Exception | None], None]


class Ledger:
    """A database that is away is waited for, until `leave`.

    Args:
        statements: for claims, and for ends from which only usage follows.
        keep: adds what shall be known of the jobs that ended to a pipeline, before their ends are
            told.
        observe: is shown the jobs whose ends were committed, before they are told.
        lines_moved: is called when lines of batches have begun or ended.
        max_attempts: times that a job is begun; 0 for no end of them.
        holds_attempt: says whether this worker has a job in its attempt of this number, or a
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
        keep: Callable[[Sequence[Job], Pipeline], None] = lambda jobs, pipe: None,
        observe: Callable[[Sequence[Job]], None] = lambda jobs: None,
        lines_moved: Callable[[], None] = lambda: None,
        max_attempts: int = 0,
        holds_attempt: Callable[[int], bool] = lambda attempt: False,
    ) -> None:
        self._sessions = sessions
        self._ends = ends
        self._worker_id = worker_id
        self._lease = lease
        self._keep = keep
        self._observe = observe
        self._lines_moved = lines_moved
        self._max_attempts = max_attempts
        self._holds_attempt = holds_attempt
        self._must_leave = threading.Event()
        self._claims: GroupCommit[Statements, Taken, Run] = GroupCommit(
            "claims",
            _EachByItself(statements),
            self._write_claims,
            committed=self._note_moves,
            must_leave=self._must_leave,
        )
        self._finishes: GroupCommit[Statements, Run, Run] = GroupCommit(
            "ends",
            _EachByItself(statements),
            self._write_ends,
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

    def claim(self, taken: Taken, then: Then) -> None:
        """Take a queued job; nothing is written if there is nothing to take."""
        self._claims.make_then(taken, then)

    def end(self, run: Run, then: Then) -> None:
        """End a job of ours and record its usage, or return it to the queue if it `goes_back`.

        Nothing is written if another worker has taken it over.
        """
        self._finishes.make_then(run, then)

    def _write_claims(self, statements: Statements, asked: Sequence[Taken]) -> list[Run | None]:
        job_ids = [taken.job_id for taken in asked]
        jobs = claim_jobs(
            statements,
            job_ids,
            worker_id=self._worker_id,
            lease=self._lease,
            max_attempts=self._max_attempts,
            may_be_last=not self._holds_attempt(self._max_attempts),
        )
        claimed: dict[object, Job] = {job.id: job for job in jobs}
        # A job that was delivered twice goes to the first who asked.
        return [
            Run(taken, job) if (job := claimed.pop(taken.job_id, None)) is not None else None
            for taken in asked
        ]

    def _write_ends(self, statements: Statements, runs: Sequence[Run]) -> list[Run | None]:
        if any(run.goes_back or not follows_only_usage(run.job) for run in runs):
            with self._sessions.begin() as session:
                ended = self._finish(session, runs)
        else:
            ends = [(run.job, self._outcome(run)) for run in runs]
            ended = finish_at_once(statements, ends, worker_id=self._worker_id)
        by_id = {(job.id, job.attempt): job for job in ended}
        others = [
            run.job
            for run in runs
            if not run.goes_back and (run.job.id, run.job.attempt) not in by_id
        ]
        if others:
            # The commit of an end may have succeeded and only its answer been lost: what follows
            # from it was written, and is still to be told.
            with self._sessions() as session:
                for job in find_ended(session, others, worker_id=self._worker_id):
                    by_id[job.id, job.attempt] = job
        for run in runs:
            run.ended = by_id.pop((run.job.id, run.job.attempt), None)
        return [run if run.goes_back or run.ended is not None else None for run in runs]

    def _finish(self, session: Session, runs: Sequence[Run]) -> list[Job]:
        back = {run.job.id: run.job.attempt for run in runs if run.goes_back}
        if back:
            hand_back_jobs(session, back, worker_id=self._worker_id)
        ends = [(run.job, self._outcome(run)) for run in runs if not run.goes_back]
        if not ends:
            return []
        ended = finish_jobs(session, ends, worker_id=self._worker_id)
        record_ends(session, ended)
        return ended

    def _outcome(self, run: Run) -> JobOutcome:
        """Return how a job ends; made once, however often the end is tried to be written."""
        if run.outcome is None:
            with run.logging():
                run.outcome = self._made_of_answer(run)
        return run.outcome

    def _made_of_answer(self, run: Run) -> JobOutcome:
        try:
            if run.answer is None:
                raise ValueError("a job without an answer has no end")
            return outcome_of(run.answer, run.prompt_tokens)
        except Exception:
            # Run again it would fail again, and the worker would be blamed for it.
            _log.exception("job failed", extra={"job": run.job.id.hex})
            return failed("internal_error", "something went wrong on our side")

    def _announce(self, runs: Sequence[Run | None]) -> None:
        jobs = [run.ended for run in runs if run is not None and run.ended is not None]
        self._observe(jobs)
        also = partial(self._keep, jobs)
        self._ends.announce(map(ended_job, jobs), also=also, is_logged=True)
        self._note_moves(runs)

    def _note_moves(self, runs: Sequence[Run | None]) -> None:
        if any(run is not None and run.job.batch_id is not None for run in runs):
            self._lines_moved()


class _EachByItself:
    """Stands in the place of sessions where a change is one statement, which commits itself."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def begin(self) -> AbstractContextManager[Statements]:
        return nullcontext(self._statements)


def failed(code: str, message: str) -> JobOutcome:
    """Return the outcome of a job that failed outside of the engine."""
    return JobOutcome(state=JobState.FAILED, error={"code": code, "message": message})
