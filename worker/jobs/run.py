"""A job on its way through this worker: what its stages hand on to each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from uuid import UUID

from core.observability.logs import request_id
from models.jobs.job import Job, JobOutcome
from worker.jobs.delivery import Answer


class Source(Protocol):
    """Where jobs are taken from; it is told what becomes of each, once."""

    def ack(self, job_id: UUID) -> None:
        """The job needs no worker any more."""
        ...

    def requeue(self, job_id: UUID) -> None:
        """Another worker shall look at the job."""
        ...


class Taken(NamedTuple):
    """A job that was delivered to this worker, and not claimed yet."""

    job_id: UUID
    source: Source


@dataclass(eq=False, slots=True)
class Run:
    """One attempt of a job, claimed by this worker.

    Attributes:
        prompt_tokens: of its prompt, once that was read.
        answer: what the engine made, once that has ended.
        outcome: how it ends: given for one that failed outside of the engine, else made of the
            answer when the end is written.
        goes_back: it does not end here, it returns to the queue.
        ended: the job as it is after its end.
    """

    taken: Taken
    job: Job
    prompt_tokens: int = 0
    answer: Answer | None = None
    outcome: JobOutcome | None = None
    goes_back: bool = False
    ended: Job | None = None

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Let the log's lines of a block carry the id of the request that made the job.

        A stage's thread works for one job after the other.
        """
        token = request_id.set(self.job.request_id)
        try:
            yield
        finally:
            request_id.reset(token)
