"""The protocol between a worker and its engine: requests, handles, events and numbers.

An engine turns prompt token ids into generated token ids, for many requests at once. It knows no
text, stop strings, streams or database: `worker/jobs/delivery.py` and `worker/jobs/runner.py` do.
`EchoEngine` runs no model; `HFEngine` runs one by transformers' continuous batching.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from core.errors import BountyError


class EngineRefused(BountyError):
    """The engine rejects a request that it cannot run; the request is at fault."""


class EngineStopping(BountyError):
    """The engine accepts no more requests; another worker may run this one."""


class FinishReason(StrEnum):
    """Why a sequence ended. `STOP` is an end token, or a stop string that delivery found."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw tokens. The defaults draw greedily from unchanged logits.

    Attributes:
        temperature: 0 takes the most likely token; above 0 it divides the logits.
        top_p: keep the smallest set of tokens whose total probability reaches this (1 keeps all).
        top_k: keep this many of the most likely tokens (0 keeps all).
        min_p: drop tokens below this fraction of the most likely token's probability.
        presence_penalty: subtracted once from the logit of each generated token.
        frequency_penalty: subtracted from a token's logit once for each time it was generated.
        repetition_penalty: divides positive logits, and multiplies negative ones, of tokens in the
            prompt and the completion, as in CTRL (Keskar et al., 2019); 1 is off.
        seed: seed, position and token alone decide the noise; other requests do not matter.
        min_tokens: draw no end token before this many tokens.
        ignore_eos: never end at an end token (for benchmarks).
        logprobs: number of most likely tokens to report at each position; `None` reports nothing.
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
    """One request in token ids.

    Attributes:
        request_id: unique among the requests in the engine.
        prompt_ids: token ids of the prompt, at least one.
        max_tokens: most tokens to generate for each sequence.
        n: sequences to draw from this prompt; the engine computes the prompt once.
        account: the account to charge the tokens to, for fairness (the API key's id).
        weight: share of the engine relative to other accounts (the key's priority).
        is_bulk: admit it only when no interactive request waits, and preempt it first.
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
    """The new tokens of one sequence after a step, or its end.

    Attributes:
        index: which of the request's `n` sequences.
        token_ids: new tokens in order, without the end token.
        finish_reason: set on the sequence's last event only.
        logprobs: one for each new token, if the request asked for them.
        error: the message of the failure, when `finish_reason` is `ERROR`.
    """

    handle: Handle
    index: int
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    error: str | None = None


#: Takes all events of one step. It runs on the engine's thread and must return quickly.
Deliver = Callable[[Sequence[StepEvent]], None]


@dataclass(eq=False, slots=True)
class Handle:
    """A request inside an engine. Each of its sequences ends exactly once.

    Attributes:
        cached_tokens: prompt tokens found in the prefix cache; set by the time of the first token.
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
        """End one sequence, or all that still run, with `reason`.

        Each sequence that had not ended gets an event with the reason. Its slot is free one step
        later.
        """
        self.cancel_with(self, index, reason)


@dataclass(frozen=True, slots=True)
class Step:
    """The measure of one forward pass.

    Attributes:
        seconds: its duration, with sampling and the delivery of the pass before it.
        sequences: number of sequences that shared it.
        tokens: number of tokens computed, those of prompts included.
    """

    seconds: float
    sequences: int
    tokens: int


#: Takes the measure of each step. It runs on the engine's thread and must return quickly.
ObserveStep = Callable[[Step], None]


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Numbers of the engine now, for the worker's heartbeat and metrics.

    Attributes:
        cache_use: used share of the attention cache, 0 to 1.
        cache_blocks: size of the attention cache in blocks.
        steps: forward passes since the start.
        generated_tokens: tokens generated since the start.
        restarts: restarts of the engine's loop after a failure.
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
        """Most tokens of one sequence, prompt and completion together."""
        ...

    def observe_steps(self, observe: ObserveStep) -> None:
        """Call `observe` with each step. Call this before `start`."""
        ...

    def start(self, deliver: Deliver) -> None:
        """Load the model and start; returns when requests can run."""
        ...

    def submit(self, request: EngineRequest) -> Handle:
        """Queue a request; `deliver` gets its events.

        Raises:
            EngineRefused: an id outside the vocabulary, an empty prompt, more tokens than fit,
                or an id in use.
            EngineStopping: the engine is stopping, or cannot continue.
        """
        ...

    def stats(self) -> EngineStats:
        """Return the engine's numbers without waiting for a step."""
        ...

    @property
    def is_healthy(self) -> bool:
        """Whether the engine can continue; if not, its process must be replaced."""
        ...

    def stop(self) -> None:
        """End running requests as `CANCELLED` and free all memory; safe to call twice."""
        ...
