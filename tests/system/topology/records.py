"""The records of clients: their refused requests and their done requests."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field

#: No response: no program listens, or the connection broke.
NO_RESPONSE = 0


@dataclass(frozen=True)
class Refusal:
    """A response after which the client has to retry.

    Attributes:
        status: of the response, or `NO_RESPONSE`.
        code: of the error, or the exception with its text.
        says_when: whether it has a `Retry-After`.
    """

    kind: str
    at: float
    status: int
    code: str
    says_when: bool = False

    def __str__(self) -> str:
        when = "" if self.says_when else " without Retry-After"
        return f"{self.kind}: {self.status} {self.code}{when}"


@dataclass(frozen=True)
class EndedJob:
    """The end of a job as its client received it.

    Attributes:
        is_sole: whether its request made no other job.
    """

    job_id: str
    text: str
    prompt_tokens: int
    completion_tokens: int
    is_sole: bool


@dataclass(frozen=True)
class Done:
    """A request whose client received all of it, with its jobs.

    Attributes:
        resumed: how often its stream was resumed.
    """

    kind: str
    began: float
    ended: float
    jobs: tuple[EndedJob, ...] = ()
    batch_id: str | None = None
    resumed: int = 0


@dataclass
class Records:
    """The records of all clients."""

    done: list[Done] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    #: What must never happen: a response that no client can use, a wait without an end.
    faults: list[tuple[float, str]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, record: Done | Refusal | str) -> None:
        with self._lock:
            match record:
                case Done():
                    self.done.append(record)
                case Refusal():
                    self.refusals.append(record)
                case str():
                    self.faults.append((time.monotonic(), record))

    def kinds_since(self, moment: float) -> Counter[str]:
        """Count the done requests of each kind that began after a moment."""
        with self._lock:
            return Counter(done.kind for done in self.done if done.began >= moment)

    def refused(self, since: float, until: float) -> list[Refusal]:
        with self._lock:
            return [refusal for refusal in self.refusals if since <= refusal.at < until]
