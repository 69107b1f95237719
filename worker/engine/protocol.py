"""What a worker expects of an engine: the protocol, its requests, handles and events.

An engine turns prompt token ids into generated token ids, many requests at once. Text, stop
strings, streams and the database are `worker/jobs/delivery.py` and `worker/jobs/runner.py`: an
engine knows none of them. `EchoEngine` runs no model; `HFEngine` is transformers' continuous
batching.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from core.errors import BountyError


class EngineRefused(BountyError):
    """The engine cannot take this request: the request is at fault."""


class EngineStopping(BountyError):
    """The engine takes no request any more: this one is innocent and may run elsewhere."""


class FinishReason(StrEnum):
    """Why a sequence ended. `STOP` is an end token or, found by delivery, a stop string."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. The defaults change nothing and draw greedily.

    Attributes:
        temperature: 0 takes the most likely token; above 0 it divides the logits.
        top_p: keep the smallest set of tokens whose probability reaches this (1 keeps all).
        top_k: keep this many of the most likely tokens (0 keeps all).
        min_p: drop tokens under this fraction of the most likely token's probability.
        presence_penalty: subtracted once from the logit of each token generated so far.
        frequency_penalty: subtracted per occurrence among the tokens generated so far.
        repetition_penalty: divides (or multiplies, if negative) logits of tokens in the prompt and
            the text so far, as in CTRL (Keskar et al., 2019); 1 is off.
        seed: the same seed, position and token give the same noise, whatever else is running.
        min_tokens: end tokens are not drawn before this many were generated.
        ignore_eos: never end at an end token (for benchmarks).
        logprobs: how many of the most likely tokens to report at each position; `None` for none.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    min_tokens: int = 0
    ignore_eos: bool = False
    logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One request as an engine sees it: ids only.

    Attributes:
        request_id: unique among the requests in the engine.
        prompt_ids: token ids of the prompt, at least one.
        max_tokens: generated tokens per sequence, at most.
        n: sequences to draw from this prompt; the prompt is computed once.
        account: whom the tokens are charged to for fairness (the API key's id).
        weight: share of the engine relative to other accounts (the key's priority).
        is_bulk: admitted only when no interactive request waits; gives way first.
        deadline: `time.monotonic()` after which it ends as `EXPIRED`; `None` for never.
    """

    request_id: str
    prompt_ids: Sequence[int]
    max_tokens: int
    sampling: Sampling = Sampling()
    n: int = 1
    account: str = ""
    weight: float = 1.0
    is_bulk: bool = False
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The log probability of the drawn token and of the most likely ones, best first."""

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class StepEvent:
    """What one step (or one end) gave one sequence of one request.

    Attributes:
        index: which of the request's `n` sequences.
        token_ids: new tokens in order; the end token itself is never among them.
        finish_reason: set on the sequence's last event, and only there.
        logprobs: one per new token when the request asked for them.
        error: what went wrong, when `finish_reason` is `ERROR`.
    """

    handle: Handle
    index: int
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    error: str | None = None


#: Takes all events of one step at once, on the engine's own thread: it must return quickly.
Deliver = Callable[[Sequence[StepEvent]], None]


@dataclass(eq=False, slots=True)
class Handle:
    """A request inside an engine. Each of its sequences ends exactly once.

    Attributes:
        cached_tokens: prompt tokens that the prefix cache saved; known with the first token.
    """

    request: EngineRequest
    cancel_with: Callable[[Handle, int | None, FinishReason], None]
    cached_tokens: int = 0
    ended: set[int] = field(default_factory=set)

    @property
    def is_finished(self) -> bool:
        return len(self.ended) == self.request.n

    def cancel(
        self, index: int | None = None, reason: FinishReason = FinishReason.CANCELLED
    ) -> None:
        """End one sequence, or all that still run, with `reason`. The place is free one step later.

        An event with the reason follows for each sequence that had not ended before.
        """
        self.cancel_with(self, index, reason)


@dataclass(frozen=True, slots=True)
class Step:
    """A forward pass that was made.

    Attributes:
        seconds: with sampling, and with handing over what the pass before it gave.
        sequences: that shared it.
        tokens: that it computed, of prompts too.
    """

    seconds: float
    sequences: int
    tokens: int


#: Is shown each step, on the engine's own thread: it must return quickly.
ObserveStep = Callable[[Step], None]


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The engine now; shown by the worker's heartbeat and its metrics.

    Attributes:
        cache_use: used share of the attention cache, 0 to 1, and `cache_blocks` its size.
        steps: forward passes since the start.
        generated_tokens: tokens generated since the start.
        restarts: times that the engine's loop was started again after a failure.
    """

    running: int = 0
    waiting: int = 0
    cache_use: float = 0.0
    cache_blocks: int = 0
    steps: int = 0
    generated_tokens: int = 0
    restarts: int = 0


class Engine(Protocol):
    """Runs requests together. All methods may be called from any thread."""

    @property
    def context_length(self) -> int:
        """Prompt plus generated tokens that one sequence may have."""
        ...

    def observe_steps(self, observe: ObserveStep) -> None:
        """Show each step to `observe`; called before `start`."""
        ...

    def start(self, deliver: Deliver) -> None:
        """Load what is needed and begin; returns when requests can run."""
        ...

    def submit(self, request: EngineRequest) -> Handle:
        """Queue a request; its events go to `deliver`.

        Raises:
            EngineRefused: an id outside the vocabulary, an empty prompt, more tokens than fit,
                or an id in use.
            EngineStopping: the engine is stopping, or cannot go on.
        """
        ...

    def stats(self) -> EngineStats: ...

    @property
    def is_healthy(self) -> bool:
        """False when the engine cannot go on and its process should be replaced."""
        ...

    def stop(self) -> None:
        """End what runs as `CANCELLED`, free everything; safe to call twice."""
        ...
