"""What clients write down: what was refused to them, and what they were told is done."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field

#: No answer at all: nobody listens, or the connection broke.
NO_ANSWER = 0


@dataclass(frozen=True)
class Refusal:
    """An answer that a client has to come again for.

    Attributes:
        status: `NO_ANSWER` or that of the answer.
        code: of the error, or the exception with its text.
        says_when: it has a `Retry-After`.
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
class Told:
    """A job as its client was told that it ended. `is_sole`: its request made no other job."""

    job_id: str
    text: str
    prompt_tokens: int
    completion_tokens: int
    is_sole: bool


@dataclass(frozen=True)
class Done:
    """A request that its client has been given all of, with the jobs that it was for.

    Attributes:
        again: how often a stream was taken up again.
    """

    kind: str
    began: float
    ended: float
    jobs: tuple[Told, ...] = ()
    batch_id: str | None = None
    again: int = 0


@dataclass
class Records:
    """Of all clients together."""

    done: list[Done] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    #: What should never be: an answer that no client can make anything of, a wait without an end.
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
        """Return how many requests of each kind began after a moment and are done."""
        with self._lock:
            return Counter(done.kind for done in self.done if done.began >= moment)

    def refused(self, since: float, until: float) -> list[Refusal]:
        with self._lock:
            return [refusal for refusal in self.refusals if since <= refusal.at < until]
