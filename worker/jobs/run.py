"""A job on its way through this worker: the value that its stages hand on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from uuid import UUID

from core.observability.logs import request_id
from models.jobs.job import Job
from models.jobs.outcome import JobOutcome
from worker.jobs.delivery import RunningGeneration


class Source(Protocol):
    """A queue that delivered jobs. Each job is acknowledged or requeued exactly once."""

    def ack(self, job_id: UUID) -> None:
        """Remove a job from the queue: it needs no worker any more."""
        ...

    def requeue(self, job_id: UUID) -> None:
        """Return a job to the queue."""
        ...


class JobMessage(NamedTuple):
    """A message that delivered a job to this worker. The job may not be claimed yet."""

    job_id: UUID
    source: Source


@dataclass(eq=False, slots=True)
class Run:
    """One attempt of a job, claimed by this worker.

    Attributes:
        prompt_tokens: length of the prompt; 0 until it is tokenized.
        generation: the engine's output; `None` until it has ended.
        outcome: how the job ends. Set at once if it failed outside the engine, else made of the
            generation when the end is written.
        must_requeue: the job does not end here, it returns to the queue.
        ended: the job's row after its end.
    """

    message: JobMessage
    job: Job
    prompt_tokens: int = 0
    generation: RunningGeneration | None = None
    outcome: JobOutcome | None = None
    must_requeue: bool = False
    ended: Job | None = None

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Add the id of the job's request to each log line of a block.

        A stage's thread works on one job after the other.
        """
        token = request_id.set(self.job.request_id)
        try:
            yield
        finally:
            request_id.reset(token)
