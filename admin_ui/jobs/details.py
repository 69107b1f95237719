"""What one job's page shows, read by few statements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from admin_ui.jobs.times import JobTimes
from admin_ui.web.access import viewer
from admin_ui.web.page import database, present_time
from admin_ui.widgets.deliveries import Delivery, deliveries_of
from models.accounts.api_key import ApiKey, find_any_key
from models.accounts.user import User
from models.jobs.job import Job, JobState
from models.jobs.lists import place_in_line

#: Nobody is told a place beyond this.
MOST_IN_LINE = 10_000
#: Of a request, what says nothing of what is asked.
_PARAMETERS = (
    "promptMode",
    "maxTokens",
    "temperature",
    "topP",
    "topK",
    "minP",
    "presencePenalty",
    "frequencyPenalty",
    "repetitionPenalty",
    "minTokens",
    "ignoreEos",
    "seed",
    "logprobs",
    "n",
    "stream",
    "cache",
    "ttlSeconds",
)


@dataclass(frozen=True, slots=True)
class JobDetails:
    """A job and what belongs to it.

    Attributes:
        position: its place in line, from 1, while it waits there.
    """

    job: Job
    key: ApiKey
    owner: User
    times: JobTimes
    position: int | None
    deliveries: list[Delivery]

    @classmethod
    def of(cls, job: Job) -> JobDetails:
        key, owner = find_any_key(database(), job.api_key_id)
        times = JobTimes.of(job, present_time())
        return cls(job, key, owner, times, _position(job), deliveries_of(job_id=job.id))

    @property
    def is_own(self) -> bool:
        return self.job.user_id == viewer().id

    @property
    def parameters(self) -> dict[str, Any]:
        return {name: self.job.request[name] for name in _PARAMETERS if name in self.job.request}

    @property
    def turns(self) -> list[tuple[str, str]]:
        """Who says what in the request: for its owner alone, as the API tells it to nobody."""
        request = self.job.request if self.is_own else {}
        if (prompt := request.get("prompt")) is not None:
            return [("prompt", prompt)]
        return [(turn["role"], turn["content"]) for turn in request.get("messages") or ()]

    @property
    def stop(self) -> list[str]:
        return list(self.job.request.get("stop") or ()) if self.is_own else []

    @property
    def may_run_again(self) -> bool:
        """Whether the job has ended, the viewer may spend the key, and it works.

        A line that was refused when it came has no request.
        """
        works = (
            self.job.is_final
            and self.is_own
            and self.key.is_active
            and self.key.deleted_at is None
            and self.owner.deleted_at is None
        )
        return works and not self.key.has_expired(present_time()) and self._is_known

    @property
    def billed_tokens(self) -> int:
        """What counts: of a job that never began, nothing."""
        job = self.job
        return job.prompt_tokens + job.completion_tokens if job.started_at else 0

    @property
    def _is_known(self) -> bool:
        return "prompt" in self.job.request or "messages" in self.job.request


def _position(job: Job) -> int | None:
    if job.state != JobState.QUEUED or job.is_held:
        return None
    return place_in_line(database(), job, most=MOST_IN_LINE) + 1
