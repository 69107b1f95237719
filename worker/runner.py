"""One job from its claim to its committed end, on one of the worker's threads.

Claim, generate, write result and usage in one transaction, commit, then tell. Whatever is delivered
twice is claimed once; a result that cannot be committed is held until the database is back.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

import redis

from core.errors import ApiError
from core.generation import Generation
from core.job_ends import publish_end
from core.log import request_id
from core.prompt import PromptTokenizer
from core.queue import QueueName
from models.base import DATABASE_AWAY, Session, SessionFactory
from models.job import Job, JobOutcome, JobState, claim_job, finish_job, hand_back_jobs
from models.job_end import record_end
from worker.delivery import Delivery
from worker.engine import EngineRefused, EngineRequest, EngineStopping
from worker.leases import Leases
from worker.outcome import outcome_of
from worker.sampling import engine_sampling

_log = logging.getLogger(__name__)

T = TypeVar("T")

WAIT_SECONDS = 1.0
FIRST_RETRY_SECONDS = 0.1
LONGEST_RETRY_SECONDS = 2.0


class JobRunner:
    def __init__(
        self,
        *,
        sessions: SessionFactory,
        client: redis.Redis,
        tokenizer: PromptTokenizer,
        delivery: Delivery,
        leases: Leases,
        worker_id: str,
    ) -> None:
        self._sessions = sessions
        self._client = client
        self._tokenizer = tokenizer
        self._delivery = delivery
        self._leases = leases
        self._worker_id = worker_id
        self._must_leave = threading.Event()

    def leave(self) -> None:
        """The process is about to end: claim nothing more, wait for the database no longer."""
        self._must_leave.set()

    def run(self, job_id: UUID) -> None:
        """Run the job if it can still be claimed; returns when its end is committed.

        A job that this process cannot run, because it ends, goes back to the queue.
        """
        if self._must_leave.is_set():
            return  # the reaper of another worker sends it again
        job = self._persist(lambda session: self._claim(session, job_id))
        if job is None:
            return
        request_id.set(job.request_id)
        self._leases.hold(job.id, job.attempt)
        try:
            outcome = self._outcome(job)
            is_cut_short = self._must_leave.is_set() and outcome.state is JobState.CANCELLED
            if self._leases.is_held(job.id, job.attempt) and not is_cut_short:
                self._finish(job, outcome)
            else:
                self._hand_back(job)
        except EngineStopping:
            self._hand_back(job)
        finally:
            self._leases.release(job.id, job.attempt)

    def _outcome(self, job: Job) -> JobOutcome:
        try:
            return self._generate(job)
        except EngineStopping:
            raise
        except Exception:
            # Run again it would fail again, and the worker would be blamed for it.
            _log.exception("job failed", extra={"job": job.id.hex})
            return _failed("internal_error", "something went wrong on our side")

    def _claim(self, session: Session, job_id: UUID) -> Job | None:
        return claim_job(session, job_id, worker_id=self._worker_id, lease=self._leases.lease)

    def _generate(self, job: Job) -> JobOutcome:
        try:
            generation = Generation.from_row(job.request)
            request = self._engine_request(job, generation)
            answer = self._delivery.submit(request, stop=generation.stop)
        except EngineRefused as error:
            return _failed("invalid_request", str(error))
        except ApiError as error:
            return _failed(error.code, error.message)
        self._leases.attach(job.id, answer)
        while not answer.wait(WAIT_SECONDS):
            if not self._leases.is_held(job.id, job.attempt):
                answer.cancel()
        return outcome_of(answer, len(request.prompt_ids), self._tokenizer.decode)

    def _engine_request(self, job: Job, generation: Generation) -> EngineRequest:
        return EngineRequest(
            # The attempt is part of the id: an earlier one may not have left the engine yet.
            request_id=f"{job.id.hex}.{job.attempt}",
            prompt_ids=self._tokenizer.encode(generation),
            max_tokens=generation.max_tokens,
            sampling=engine_sampling(generation, self._tokenizer.defaults, job.id),
            n=generation.n,
            account=job.api_key_id.hex,
            weight=float(job.priority),
            is_bulk=job.queue == QueueName.BULK,
        )

    def _hand_back(self, job: Job) -> None:
        """Return the job to the queue, if it is still ours."""
        self._persist(
            lambda session: hand_back_jobs(
                session, {job.id: job.attempt}, worker_id=self._worker_id
            )
        )

    def _finish(self, job: Job, outcome: JobOutcome) -> None:
        ended = self._persist(lambda session: _record_end(session, job, outcome))
        if ended is None:
            _log.warning("the job had been taken over, its result is dropped")
            return
        _log.info("job", extra=_log_fields(ended))
        try:
            publish_end(self._client, job.id)
        except redis.RedisError:
            _log.warning("the end could not be told: waiters will look at the row")

    def _persist(self, change: Callable[[Session], T | None]) -> T | None:
        """Make a change in a transaction of its own, again and again while the database is away.

        Returns `None` when the process must leave first: the lease runs out and the job runs again.
        """
        delay = FIRST_RETRY_SECONDS
        while True:
            try:
                with self._sessions.begin() as session:
                    return change(session)
            except DATABASE_AWAY as error:
                _log.warning("the database is away: %s", type(error).__name__)
            if self._must_leave.wait(delay * random.uniform(0.5, 1)):
                return None
            delay = min(delay * 2, LONGEST_RETRY_SECONDS)


def _record_end(session: Session, job: Job, outcome: JobOutcome) -> Job | None:
    ended = finish_job(
        session, job.id, attempt=job.attempt, worker_id=job.worker_id, outcome=outcome
    )
    if ended is not None:
        record_end(session, ended)
    return ended


def _failed(code: str, message: str) -> JobOutcome:
    return JobOutcome(state=JobState.FAILED, error={"code": code, "message": message})


def _log_fields(job: Job) -> dict[str, Any]:
    began = job.started_at or job.created_at
    ended = job.finished_at or began
    return {
        "job": job.id.hex,
        "key": job.api_key_id.hex,
        "state": job.state,
        "attempt": job.attempt,
        "prompt_tokens": job.prompt_tokens,
        "completion_tokens": job.completion_tokens,
        "queued_ms": round((began - job.created_at).total_seconds() * 1000),
        "ran_ms": round((ended - began).total_seconds() * 1000),
    }
