"""One job from its claim to its committed end, on one of the worker's threads.

Claim, generate, write result and usage in one transaction, commit, then tell. Whatever is delivered
twice is claimed once; a result that cannot be committed is held until the database is back.
"""

from __future__ import annotations

import logging
import threading
from typing import Any
from uuid import UUID

from core.answer_cache import AnswerCache, CachedAnswer
from core.errors import ApiError
from core.generation import Generation
from core.job_requests import JobRequest
from core.log import request_id
from core.prompt import PromptTokenizer
from core.queue import QueueName
from models.job import Job, JobOutcome, JobState
from worker.delivery import Delivery
from worker.engine import EngineRefused, EngineRequest, EngineStopping
from worker.leases import Leases
from worker.ledger import Ledger
from worker.outcome import outcome_of
from worker.sampling import engine_sampling

_log = logging.getLogger(__name__)

WAIT_SECONDS = 1.0


class JobRunner:
    def __init__(
        self,
        *,
        ledger: Ledger,
        answers: AnswerCache,
        tokenizer: PromptTokenizer,
        delivery: Delivery,
        leases: Leases,
    ) -> None:
        self._ledger = ledger
        self._answers = answers
        self._tokenizer = tokenizer
        self._delivery = delivery
        self._leases = leases
        self._must_leave = threading.Event()

    def leave(self) -> None:
        """The process is about to end: claim nothing more, wait for the database no longer."""
        self._must_leave.set()
        self._ledger.leave()

    def act(self, request: JobRequest, job_id: UUID) -> None:
        """Do what was asked about a job, if it runs here."""
        if request is JobRequest.CANCEL:
            self._leases.cancel(job_id)
        elif (answer := self._leases.answer_of(job_id)) is not None and answer.may_tell_all():
            self._delivery.follow(answer)

    def run(self, job_id: UUID) -> None:
        """Run the job if it can still be claimed; returns when its end is committed.

        A job that this process cannot run, because it ends, goes back to the queue.
        """
        if self._must_leave.is_set():
            return  # the reaper of another worker sends it again
        job = self._ledger.claim(job_id)
        if job is None:
            return
        request_id.set(job.request_id)
        self._leases.hold(job.id, job.attempt)
        try:
            outcome = self._outcome(job)
            if self._leases.is_held(job.id, job.attempt) and not self._is_cut_short(job, outcome):
                self._finish(job, outcome)
            else:
                self._ledger.hand_back(job)
        except EngineStopping:
            self._ledger.hand_back(job)
        finally:
            self._leases.release(job.id, job.attempt)

    def _is_cut_short(self, job: Job, outcome: JobOutcome) -> bool:
        """Whether the answer ended early because this process does, and not for its owner."""
        is_cancelled = outcome.state is JobState.CANCELLED
        return is_cancelled and self._must_leave.is_set() and not self._leases.is_cancelled(job.id)

    def _outcome(self, job: Job) -> JobOutcome:
        try:
            return self._generate(job)
        except EngineStopping:
            raise
        except Exception:
            # Run again it would fail again, and the worker would be blamed for it.
            _log.exception("job failed", extra={"job": job.id.hex})
            return _failed("internal_error", "something went wrong on our side")

    def _generate(self, job: Job) -> JobOutcome:
        try:
            generation = Generation.from_row(job.request)
            request = self._engine_request(job, generation)
            answer = self._delivery.submit(
                request,
                stop=generation.stop,
                job=job.id.hex,
                attempt=job.attempt,
                is_followed=job.is_streamed,
            )
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

    def _finish(self, job: Job, outcome: JobOutcome) -> None:
        try:
            ended = self._ledger.finish(job, outcome)
        except Exception:
            # Made again it would be refused again: the job fails rather than run three times.
            _log.exception("a result could not be written", extra={"job": job.id.hex})
            ended = self._ledger.finish(
                job, _failed("internal_error", "the result could not be written")
            )
        if ended is None:
            _log.warning("the job had been taken over, its result is dropped")
            return
        _log.info("job", extra=_log_fields(ended))
        self._keep_answer(ended)

    def _keep_answer(self, job: Job) -> None:
        if job.state == JobState.SUCCEEDED and job.request.get("cache"):
            answer = CachedAnswer(job.choices or [], job.prompt_tokens, job.completion_tokens)
            self._answers.keep(job.user_id, Generation.from_row(job.request), answer)


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
