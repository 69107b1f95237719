"""One sequence of a request: our record of it, and the state that the library schedules for it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from transformers.generation.continuous_batching.requests import RequestState, RequestStatus

from worker.engine import EngineRequest, FinishReason, Handle


@dataclass(eq=False, slots=True)
class Sequence:
    """What the engine knows of one sequence, across restarts and preemptions.

    Attributes:
        serial: order of arrival; earlier ones go first within an account.
        tokens: generated and handed over so far.
        library_id: the id of its present life in the library; every resubmission has a new one.
        is_charged: whether its prompt was charged to the account.
        is_held: it waits outside of the library until others have been tried.
        is_cleared: it made a token in its present life.
        strikes: failed batches that it was part of.
    """

    handle: Handle
    index: int
    serial: int
    tokens: list[int] = field(default_factory=list)
    library_id: str = ""
    is_charged: bool = False
    is_held: bool = False
    is_cleared: bool = False
    strikes: int = 0

    @property
    def request(self) -> EngineRequest:
        return self.handle.request

    @property
    def prompt_length(self) -> int:
        return len(self.request.prompt_ids)

    @property
    def is_ended(self) -> bool:
        return self.index in self.handle.ended


@dataclass(frozen=True, slots=True)
class Progress:
    """What the library says of one state after a step; `tokens` is its live list, not a copy.

    Attributes:
        tokens: generated since the state was last reset by a preemption.
        initial_length: tokens that the state began with, those of earlier lives among them.
    """

    request_id: str
    tokens: list[int]
    initial_length: int
    is_finished: bool
    error: str | None


class SequenceState(RequestState):
    """The library's state, without its copy of all tokens so far at every step."""

    def to_generation_output(self) -> Progress:
        return Progress(
            request_id=self.request_id,
            tokens=self.generated_tokens,
            initial_length=len(self.initial_tokens),
            is_finished=self.status == RequestStatus.FINISHED,
            error=self.error,
        )

    def create_equivalent_initial_request(self) -> SequenceState:
        plain = super().create_equivalent_initial_request()
        values: dict[str, Any] = {f.name: getattr(plain, f.name) for f in fields(plain)}
        return SequenceState(**values)


def new_state(
    sequence: Sequence, library_id: str, *, eos_ids: tuple[int, ...], children: int = 0
) -> SequenceState:
    """Return a state that continues `sequence` after the tokens it has made so far."""
    request = sequence.request
    return SequenceState(
        request_id=library_id,
        initial_tokens=[*request.prompt_ids, *sequence.tokens],
        num_children=children,
        max_new_tokens=request.max_tokens - len(sequence.tokens),
        eos_token_id=[] if request.sampling.ignore_eos else list(eos_ids),
        streaming=True,
    )


def finish_reason(sequence: Sequence, last_token: int, eos_ids: tuple[int, ...]) -> FinishReason:
    """Return why the library ended the sequence: an end token, or its length."""
    is_end = last_token in eos_ids and not sequence.request.sampling.ignore_eos
    return FinishReason.STOP if is_end else FinishReason.LENGTH
