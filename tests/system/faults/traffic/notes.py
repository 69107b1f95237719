"""What the clients of a run note, and the limits of their keys."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.system.faults.installation.engine import Poison

#: Of the keys with limits; each key is named by its limit.
RATE_LIMIT, CONCURRENCY, MONTHLY_TOKENS = 25, 3, 700
LIMITED_KEYS = ("rate", "in flight", "month")
#: Clients that share the key with a limit of jobs in flight.
CONCURRENT_CLIENTS = 2


@dataclass
class SeenRequest:
    """What a client knows of one request.

    Attributes:
        mark: identifies the request; the job's metadata has it.
        is_repeatable: whether it has an Idempotency-Key.
        job: the job's id, once the client knows it.
        status: the last status of the job that the client received.
        text: the received part of a stream, else the completion.
    """

    kind: str
    mark: str
    prompt: str
    max_tokens: int
    is_repeatable: bool = False
    poison: Poison | None = None
    job: str | None = None
    status: str | None = None
    text: str = ""
    is_whole: bool = False
    usage: dict[str, int] | None = None

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "prompt": self.prompt,
            "maxTokens": self.max_tokens,
            "metadata": {"mark": self.mark},
        }
        return body if self.poison is None else {**body, "seed": int(self.poison)}

    @property
    def headers(self) -> dict[str, str]:
        return {"Idempotency-Key": self.mark} if self.is_repeatable else {}

    @property
    def key(self) -> str:
        """The name of the key that sends this kind of request."""
        return self.kind if self.kind in LIMITED_KEYS else "free"


@dataclass
class Granted:
    """An accepted request of the key with a rate limit, by this machine's clock."""

    sent_at: float
    received_at: float


@dataclass
class SentBatch:
    id: str
    marks: list[str]


@dataclass
class Notes:
    """The notes of all clients of a run."""

    seen: list[SeenRequest] = field(default_factory=list)
    batches: list[SentBatch] = field(default_factory=list)
    granted: list[Granted] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add_completion(self, seen: SeenRequest, response: dict[str, Any]) -> None:
        """Note the response to a synchronous call."""
        seen.job, seen.status, seen.is_whole = response["id"], "succeeded", True
        seen.text, seen.usage = response["choices"][0]["text"], response["usage"]

    def add_job(self, seen: SeenRequest, job: dict[str, Any]) -> None:
        """Note a job as the API returned it; it must not contradict what the client knows."""
        if seen.job not in (None, job["id"]):
            self.faults.append(f"{seen.mark} is {seen.job}, and later {job['id']}")
        if seen.status not in (None, "queued", "running", job["status"]):
            self.faults.append(f"{job['id']} was {seen.status}, later {job['status']}")
        seen.job, seen.status = job["id"], job["status"]
        if job["status"] == "succeeded" and job.get("result"):
            result = job["result"]
            seen.text, seen.usage = result["choices"][0]["text"], result["usage"]
            seen.is_whole = True
