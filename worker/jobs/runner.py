"""Jobs from their delivery to their committed end: the stages, and what leads from one to the next.

A job is a value that is handed on, and no thread waits for it:

    take    `poller.py`       one thread for each queue
    claim   `ledger.py`       one UPDATE for all that were taken meanwhile
    begin   `prompt_pool.py`  a few threads: parse, tokenize, submit to the engine; a short
                              prompt's job begins at once, where it was claimed
    answer  `delivery.py`     the engine's tokens to text; its end calls back
    end     `ledger.py`       results and usage in one transaction, COMMIT, then tell

What happens to a job when a part fails:

- delivered twice: claimed once; the second delivery finds nothing and is let go.
- PostgreSQL away at the claim or the end: it waits in that stage until the database is back, or
  until the process must leave; then the message goes back, and the lease of one that was claimed
  runs out. A claim that the database refuses is let go: the reaper sends the job again.
- the request cannot be read, or is refused by the engine: it fails, at once, and counts.
- the engine stops or cannot go on: it returns to the queue, row and message.
- its lease was lost (taken over elsewhere, or handed back): the engine drops it, and its end, if it
  comes to one, changes nothing, because each write names the attempt.
- the database refuses its end: alone, and it fails instead; refused again, its lease runs out.
- Redis away: ends are committed and not told; waiters look at the row,
  `worker/maintenance/limit_reconciler.py` settles, and messages that were not acknowledged are
  delivered again and claim nothing.
- the process is killed: lease and messages run out, and it begins again elsewhere.

Between any two stages wait at most the jobs that the worker may hold: the takers stop there.
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
from worker.jobs.delivery import Answer, Delivery
from worker.jobs.leases import Leases
from worker.jobs.ledger import Ledger, failed
from worker.jobs.prompt_pool import Beginners
from worker.jobs.run import Run, Taken
from worker.jobs.sampling import engine_sampling

_log = logging.getLogger(__name__)

#: Shorter prompts are read in less time than it takes to hand them to another thread.
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
        self._beginners = Beginners(self._begin)
        self._must_leave = threading.Event()
        self._changed = threading.Condition()
        self._held = 0

    def start(self) -> None:
        self._beginners.start()

    def leave(self) -> None:
        """The process is about to end: claim nothing more, wait for the database no longer."""
        self._must_leave.set()
        self._ledger.leave()

    def stop(self) -> None:
        self._beginners.stop()

    def act(self, request: JobCommand, job_id: UUID) -> None:
        """Do what was asked about a job, if it runs here."""
        if request is JobCommand.CANCEL:
            self._leases.cancel(job_id)
        elif (answer := self._leases.answer_of(job_id)) is not None and answer.may_tell_all():
            self._delivery.follow(answer)

    def take(self, jobs: Sequence[Taken]) -> None:
        """Run those of the jobs that can still be claimed; returns at once.

        The source of each is told what became of it: `ack` when its end is committed or others see
        to it, `requeue` when this process cannot run it.
        """
        with self._changed:
            self._held += len(jobs)
        for taken in jobs:
            if self._must_leave.is_set():
                self._let_go(taken, may_run=True)
            else:
                self._ledger.claim(taken, partial(self._begin_claimed, taken))

    def wait_idle(self, seconds: float) -> bool:
        """Wait until no job is held, at most this long; say whether none is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._held == 0, timeout=seconds)

    def _begin_claimed(self, taken: Taken, run: Run | None, error: Exception | None) -> None:
        if run is not None:
            self._leases.hold(run.job.id, run.job.attempt)
            if run.job.prompt_tokens <= SHORT_PROMPT_TOKENS:
                self._begin(run)
            else:
                self._beginners.put(run)
            return
        if error is not None:
            _log.error("a claim was refused: %s", type(error).__name__)
        self._let_go(taken, may_run=error is None and self._must_leave.is_set())

    def _begin(self, run: Run) -> None:
        """Give a job to the engine, or end it with the reason why that cannot be done."""
        with run.logging():
            try:
                answer = self._submit(run)
            except EngineStopping:
                run.goes_back = True
            except EngineRefused as error:
                run.outcome = failed("invalid_request", str(error))
            except ApiError as error:
                run.outcome = failed(error.code, error.message)
            except Exception:
                # Run again it would fail again, and the worker would be blamed for it.
                _log.exception("job failed", extra={"job": run.job.id.hex})
                run.outcome = failed("internal_error", "something went wrong on our side")
            else:
                self._leases.attach(run.job.id, run.job.attempt, answer)
                return
        self._end(run)

    def _submit(self, run: Run) -> Answer:
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
            ended=partial(self._end_answered, run),
        )

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

    def _end_answered(self, run: Run, answer: Answer) -> None:
        """Take an answer that has ended, on the delivery's thread."""
        run.answer = answer
        run.goes_back = self._is_cut_short(run, answer)
        self._end(run)

    def _is_cut_short(self, run: Run, answer: Answer) -> bool:
        """Whether the answer ended early because this process does, and not for its owner."""
        return (
            answer.was_cancelled
            and self._must_leave.is_set()
            and not self._leases.is_cancelled(run.job.id)
        )

    def _end(self, run: Run) -> None:
        if self._leases.is_held(run.job.id, run.job.attempt):
            self._ledger.end(run, partial(self._finish, run))
        else:
            # Its row has gone back, or to another worker, already.
            self._let_go(run.taken, may_run=True)

    def _finish(self, run: Run, written: Run | None, error: Exception | None) -> None:
        """Let go of a job whose end was written, or cannot be."""
        with run.logging():
            if error is not None and self._fail_instead(run, error):
                return
            ended = written.ended if written is not None else None
            if ended is not None:
                _log.info("job", extra=_log_fields(ended))
            elif written is None and error is None:
                _log.warning("the job is not ours any more, its result is dropped")
        self._leases.release(run.job.id, run.job.attempt)
        self._let_go(run.taken, may_run=ended is None and error is None)

    def _fail_instead(self, run: Run, error: Exception) -> bool:
        """Let a job fail whose result the database refuses; False if that was refused too.

        Made again the result would be refused again: the job fails rather than run three times.
        """
        is_result = run.answer is not None
        _log.error("an end could not be written", exc_info=error, extra={"job": run.job.id.hex})
        if is_result:
            run.answer = None  # so that it is tried once
            run.outcome = failed("internal_error", "the result could not be written")
            self._ledger.end(run, partial(self._finish, run))
        return is_result

    def _let_go(self, taken: Taken, *, may_run: bool) -> None:
        """Tell the source of a job; `may_run` says whether its row may wait for a worker."""
        if may_run:
            taken.source.requeue(taken.job_id)
        else:
            taken.source.ack(taken.job_id)
        with self._changed:
            self._held -= 1
            if self._held == 0:
                self._changed.notify_all()


def _log_fields(job: Job) -> dict[str, Any]:
    began = job.started_at or job.queued_at
    ended = job.finished_at or began
    return {
        "job": job.id.hex,
        "key": job.api_key_id.hex,
        "state": job.state,
        "attempt": job.attempt,
        "prompt_tokens": job.prompt_tokens,
        "completion_tokens": job.completion_tokens,
        "queued_ms": round((began - job.queued_at).total_seconds() * 1000),
        "ran_ms": round((ended - began).total_seconds() * 1000),
    }
