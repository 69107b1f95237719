"""The end of a job as its worker reports it."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from typing import Any

from models.jobs.job import JobState


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """The final state of a job, its result and its used tokens.

    Attributes:
        first_token: when the first token came, by this process's `time.monotonic()`. The database
            dates the token by its own clock, because the clock of this machine may be wrong.
    """

    state: JobState
    choices: list[dict[str, Any]] | None = None
    error: dict[str, Any] | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    first_token: float | None = None

    @property
    def first_token_age(self) -> float | None:
        """The seconds since the first token."""
        return None if self.first_token is None else max(0.0, time.monotonic() - self.first_token)


def outcome_values(outcome: JobOutcome) -> dict[str, Any]:
    """Return the values that an end writes, by the names of the columns."""
    names = [field.name for field in fields(outcome) if field.name != "first_token"]
    return {name: getattr(outcome, name) for name in names}
