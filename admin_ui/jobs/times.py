"""Durations and throughput of a job, from its timestamps."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from models.jobs.job import Job


@dataclass(frozen=True, slots=True)
class JobTimes:
    """Durations in milliseconds; `None` while unknown.

    The queue time starts when the job joins the queue.

    Attributes:
        queued: until the start of the last attempt, or until now.
        first_token: from joining the queue to the first token.
        generating: from the first token to the end.
        total: from joining the queue to the end, or until now.
        tokens_per_second: completion tokens after the first.
    """

    queued: float | None
    first_token: float | None
    generating: float | None
    total: float | None
    tokens_per_second: float | None

    @classmethod
    def of(cls, job: Job, now: datetime) -> JobTimes:
        """Return the times of a job at `now`, by the clock of the database."""
        end = job.finished_at or now
        generating = _between(job.first_token_at, job.finished_at)
        return cls(
            queued=_between(job.queued_at, job.started_at or end),
            first_token=_between(job.queued_at, job.first_token_at),
            generating=generating,
            total=_between(job.queued_at, end),
            tokens_per_second=_rate(job.completion_tokens - 1, generating),
        )


def _between(start: datetime | None, end: datetime | None) -> float | None:
    if start is None or end is None:
        return None
    # The timestamps may come from two machines, whose clocks differ.
    return max(0.0, (end - start).total_seconds() * 1000)


def _rate(tokens: int, milliseconds: float | None) -> float | None:
    if milliseconds is None or milliseconds < 1 or tokens < 1:
        return None
    return tokens * 1000 / milliseconds
