"""Runs jobs from their delivery to their committed end, and connects the stages.

A job is a value that the stages hand on; no thread waits for it:

    fetch     `poller.py`       one thread for each queue
    claim     `ledger.py`       one UPDATE for all jobs that arrived since the last one
    submit    `prompt_pool.py`  a few threads parse, tokenize and submit to the engine; a short
                                prompt is submitted at once, on the thread that claimed it
    generate  `delivery.py`     turns the engine's tokens into text; calls back at the end
    finish    `ledger.py`       writes results and usage in one transaction, commits, publishes

What happens to a job when a part fails:

- The job is delivered twice: it is claimed once. The second message is acknowledged.
- PostgreSQL is away at the claim or the end: the job waits in that stage until the database is
  back, or until the process must leave. Then an unclaimed job's message returns to the queue, and a
  claimed job's lease expires. If the database rejects a claim, the message is acknowledged and the
  reaper sends the job again.
- The request cannot be parsed, or the engine refuses it: the job fails at once, and counts.
- The engine stops or cannot continue: row and message return to the queue.
- The lease is lost (another worker took over, or the row was requeued): the engine drops the job.
  An end that it still reaches changes nothing, because each write names the attempt.
- The database rejects the end: only this job fails instead. If that is rejected too, its lease
  expires.
- Redis is away: ends are committed and not published. Waiting requests poll the row,
  `worker/maintenance/limit_reconciler.py` settles, and messages that were not acknowledged are
  delivered again and claim nothing.
- The process is killed: lease and messages expire, and another worker runs the job.

Between two stages wait at most the jobs that the worker may hold: the pollers stop there.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

from core.errors import ApiError
from core.events.job_commands import JobCommand
from core.generation import Generation
from core.prompts.tokenizer import PromptTokenizer
from core.queueing.names import QueueName
from models.jobs.job import Job
from worker.engine.protocol import EngineRefused, EngineRequest, EngineStopping
from worker.jobs.delivery import Delivery, RunningGeneration
from worker.jobs.leases import Leases
from worker.jobs.ledger import Ledger, failed_outcome
from worker.jobs.prompt_pool import PromptPool
from worker.jobs.run import JobMessage, Run
from worker.jobs.sampling import engine_sampling

_log = logging.getLogger(__name__)

#: Tokenizing a shorter prompt takes less time than handing it to another thread.
SHORT_PROMPT_TOKENS = 1024


class JobRunner:
    def __init__(
        self,
        *,
        ledger: Ledger,
        tokenizer: PromptTokenizer,
        delivery: Delivery,
        leases: Leases,
    ) -> None:
        self._ledger = ledger
        self._tokenizer = tokenizer
        self._delivery = delivery
        self._leases = leases
        self._prompts = PromptPool(self._submit)
        self._must_leave = threading.Event()
        self._changed = threading.Condition()
        self._held = 0

    def start(self) -> None:
        self._prompts.start()

    def leave(self) -> None:
        """Stop claiming jobs and waiting for the database before the process ends."""
        self._must_leave.set()
        self._ledger.leave()

    def stop(self) -> None:
        self._prompts.stop()

    def on_command(self, command: JobCommand, job_id: UUID) -> None:
        """Execute a command about a job, if the job runs here."""
        if command is JobCommand.CANCEL:
            self._leases.cancel(job_id)
            return
        generation = self._leases.generation_of(job_id)
        if generation is not None and generation.may_publish_all():
            self._delivery.follow(generation)

    def accept(self, messages: Sequence[JobMessage]) -> None:
        """Run each job that can still be claimed; return at once.

        Calls the source of each message once: `ack` when the end is committed or another process
        is responsible, `requeue` when this process cannot run the job.
        """
        with self._changed:
            self._held += len(messages)
        for message in messages:
            if self._must_leave.is_set():
                self._release(message, must_requeue=True)
            else:
                self._ledger.claim(message, partial(self._on_claimed, message))

    def wait_idle(self, seconds: float) -> bool:
        """Wait until no job is held, at most this long; return whether none is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._held == 0, timeout=seconds)

    def _on_claimed(self, message: JobMessage, run: Run | None, error: Exception | None) -> None:
        if run is not None:
            self._leases.hold(run.job.id, run.job.attempt)
            if run.job.prompt_tokens <= SHORT_PROMPT_TOKENS:
                self._submit(run)
            else:
                self._prompts.put(run)
            return
        if error is not None:
            _log.error("the database rejected a claim: %s", type(error).__name__)
        self._release(message, must_requeue=error is None and self._must_leave.is_set())

    def _submit(self, run: Run) -> None:
        """Submit a job to the engine, or end it with the reason why that is impossible."""
        with run.logging():
            try:
                generation = self._start_generation(run)
            except EngineStopping:
                run.must_requeue = True
            except EngineRefused as error:
                run.outcome = failed_outcome("invalid_request", str(error))
            except ApiError as error:
                run.outcome = failed_outcome(error.code, error.message)
            except Exception:
                # A retry would fail again, and count as the death of a worker.
                _log.exception("job failed", extra={"job": run.job.id.hex})
                run.outcome = failed_outcome("internal_error", "something went wrong on our side")
            else:
                self._leases.attach(run.job.id, run.job.attempt, generation)
                return
        self._finish(run)

    def _start_generation(self, run: Run) -> RunningGeneration:
        job = run.job
        generation = Generation.from_row(job.request)
        request = self._engine_request(job, generation)
        run.prompt_tokens = len(request.prompt_ids)
        return self._delivery.submit(
            request,
            stop=generation.stop,
            fence=self._tokenizer.fence_of(generation),
            job=job.id.hex,
            attempt=job.attempt,
            is_followed=job.is_streamed,
            on_end=partial(self._on_generated, run),
        )

    def _engine_request(self, job: Job, generation: Generation) -> EngineRequest:
        return EngineRequest(
            # The attempt is part of the id: an earlier attempt may still be in the engine.
            request_id=f"{job.id.hex}.{job.attempt}",
            prompt_ids=self._tokenizer.encode(generation),
            max_tokens=generation.max_tokens,
            sampling=engine_sampling(generation, self._tokenizer.defaults, job.id),
            n=generation.n,
            account=job.api_key_id.hex,
            weight=float(job.priority),
            is_bulk=job.queue == QueueName.BULK,
        )

    def _on_generated(self, run: Run, generation: RunningGeneration) -> None:
        """Finish a job whose generation has ended. Runs on the delivery thread."""
        run.generation = generation
        run.must_requeue = self._is_cut_short(run, generation)
        self._finish(run)

    def _is_cut_short(self, run: Run, generation: RunningGeneration) -> bool:
        """Return whether the drain, and not the owner, cancelled the generation."""
        return (
            generation.was_cancelled
            and self._must_leave.is_set()
            and not self._leases.is_cancelled(run.job.id)
        )

    def _finish(self, run: Run) -> None:
        if self._leases.is_held(run.job.id, run.job.attempt):
            self._ledger.finish(run, partial(self._on_finished, run))
        else:
            # Its row was requeued, or another worker took the job over.
            self._release(run.message, must_requeue=True)

    def _on_finished(self, run: Run, written: Run | None, error: Exception | None) -> None:
        """Release a job whose end was written, or cannot be written."""
        with run.logging():
            if error is not None and self._fail_instead(run, error):
                return
            ended = written.ended if written is not None else None
            if ended is not None:
                _log.info("job", extra=_log_fields(ended))
            elif written is None and error is None:
                _log.warning("the end of the job is not written, its result is dropped")
        self._leases.release(run.job.id, run.job.attempt)
        self._release(run.message, must_requeue=ended is None and error is None)

    def _fail_instead(self, run: Run, error: Exception) -> bool:
        """Fail a job whose result the database rejects; False after the second time.

        A retry would produce the same result, which the database would reject again.
        """
        is_result = run.generation is not None
        _log.error("cannot write the end of a job", exc_info=error, extra={"job": run.job.id.hex})
        if is_result:
            run.generation = None  # fail the job once only
            run.outcome = failed_outcome("internal_error", "the result could not be written")
            self._ledger.finish(run, partial(self._on_finished, run))
        return is_result

    def _release(self, message: JobMessage, *, must_requeue: bool) -> None:
        """Requeue the message of a job that still needs a worker, or acknowledge it."""
        if must_requeue:
            message.source.requeue(message.job_id)
        else:
            message.source.ack(message.job_id)
        with self._changed:
            self._held -= 1
            if self._held == 0:
                self._changed.notify_all()


def _log_fields(job: Job) -> dict[str, Any]:
    started = job.started_at or job.queued_at
    ended = job.finished_at or started
    return {
        "job": job.id.hex,
        "key": job.api_key_id.hex,
        "state": job.state,
        "attempt": job.attempt,
        "prompt_tokens": job.prompt_tokens,
        "completion_tokens": job.completion_tokens,
        "queued_ms": round((started - job.queued_at).total_seconds() * 1000),
        "ran_ms": round((ended - started).total_seconds() * 1000),
    }
