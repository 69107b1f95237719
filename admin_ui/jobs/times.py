"""What a job's times say: how long it waited, until its first token, and how fast it was then."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from models.jobs.job import Job


@dataclass(frozen=True, slots=True)
class JobTimes:
    """Milliseconds, as far as they are known; what goes on counts until now.

    Attributes:
        queued: until it was begun (for the last time).
        first_token: from the beginning of the wait to the first token.
        generating: from the first token to the end.
        total: from the beginning of the wait to the end.
        tokens_per_second: of one answer after its first token.
    """

    queued: float | None
    first_token: float | None
    generating: float | None
    total: float | None
    tokens_per_second: float | None

    @classmethod
    def of(cls, job: Job, now: datetime) -> JobTimes:
        """Return the times of a job as they are `now`, by the clock of the database."""
        end = job.finished_at or now
        generating = _between(job.first_token_at, job.finished_at)
        return cls(
            queued=_between(job.queued_at, job.started_at or end),
            first_token=_between(job.queued_at, job.first_token_at),
            generating=generating,
            total=_between(job.queued_at, end),
            tokens_per_second=_rate(job.completion_tokens - 1, generating),
        )


def _between(begin: datetime | None, end: datetime | None) -> float | None:
    if begin is None or end is None:
        return None
    # Two machines' clocks may differ a little.
    return max(0.0, (end - begin).total_seconds() * 1000)


def _rate(tokens: int, milliseconds: float | None) -> float | None:
    if milliseconds is None or milliseconds < 1 or tokens < 1:
        return None
    return tokens * 1000 / milliseconds
