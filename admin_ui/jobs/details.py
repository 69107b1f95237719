"""Data of the page of one job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from admin_ui.jobs.times import JobTimes
from admin_ui.web.access import viewer
from admin_ui.web.page import database, present_time
from admin_ui.widgets.webhooks import WebhookLog, webhooks_of
from models.accounts.api_key import ApiKey, find_any_key
from models.accounts.user import User
from models.jobs.job import Job, JobState
from models.jobs.queue_positions import count_jobs_before

#: Fields of a request that do not reveal the prompt.
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
    """A job with its key, owner, times and webhooks.

    Attributes:
        position: in the queue, from 1; `None` if the job is not in the queue.
    """

    job: Job
    key: ApiKey
    owner: User
    times: JobTimes
    position: int | None
    webhooks: list[WebhookLog]

    @classmethod
    def of(cls, job: Job) -> JobDetails:
        key, owner = find_any_key(database(), job.api_key_id)
        times = JobTimes.of(job, present_time())
        return cls(job, key, owner, times, _position(job), webhooks_of(job_id=job.id))

    @property
    def is_own(self) -> bool:
        return self.job.user_id == viewer().id

    @property
    def parameters(self) -> dict[str, Any]:
        return {name: self.job.request[name] for name in _PARAMETERS if name in self.job.request}

    @property
    def messages(self) -> list[tuple[str, str]]:
        """Role and content of each message; empty for anyone but the owner."""
        request = self.job.request if self.is_own else {}
        if (prompt := request.get("prompt")) is not None:
            return [("prompt", prompt)]
        return [(each["role"], each["content"]) for each in request.get("messages") or ()]

    @property
    def stop(self) -> list[str]:
        return list(self.job.request.get("stop") or ()) if self.is_own else []

    @property
    def may_rerun(self) -> bool:
        """Whether the job has ended, its request is stored, and the viewer owns a working key.

        A batch line that was rejected on upload has no request.
        """
        may_use_key = (
            self.job.is_final
            and self.is_own
            and self.key.is_active
            and self.key.deleted_at is None
            and self.owner.deleted_at is None
        )
        return may_use_key and not self.key.has_expired(present_time()) and self._has_request

    @property
    def billed_tokens(self) -> int:
        """Prompt and completion tokens; 0 for a job that never started."""
        job = self.job
        return job.prompt_tokens + job.completion_tokens if job.started_at else 0

    @property
    def _has_request(self) -> bool:
        return "prompt" in self.job.request or "messages" in self.job.request


def _position(job: Job) -> int | None:
    if job.state != JobState.QUEUED or job.is_held:
        return None
    return count_jobs_before(database(), job) + 1
