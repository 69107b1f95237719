"""One sequence of a request: our record of it, and the state that the library schedules for it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from transformers.generation.continuous_batching.requests import RequestState, RequestStatus

from worker.engine.protocol import EngineRequest, FinishReason, Handle, Sampling

#: Between a state's id and the number of one forked from it, in the library's ids.
CHILD_MARK = "__child#"


@dataclass(eq=False, slots=True)
class Sequence:
    """What the engine knows of one sequence, across restarts and preemptions.

    Attributes:
        serial: order of arrival; earlier ones go first within an account.
        tokens: generated and handed over so far.
        library_id: the id of its present life in the library; every resubmission has a new one.
        charged: tokens of its prompt that were charged to the account.
        is_held: it waits outside of the library until others have been tried.
        is_cleared: it made a token in its present life.
        strikes: failed batches that it was part of.
        gave_way_at: tokens that it had when it last gave its place to another account.
    """

    handle: Handle
    index: int
    serial: int
    tokens: list[int] = field(default_factory=list)
    library_id: str = ""
    charged: int = 0
    is_held: bool = False
    is_cleared: bool = False
    strikes: int = 0
    tokens_when_preempted: int | None = None

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
class StateOutput:
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


@dataclass
class SequenceState(RequestState):
    """The library's state, with all that its steps are computed by, on each of several GPUs.

    It makes no copy of all tokens so far at every step.

    Attributes:
        first_index: of the sequence, among the `n` of its request, that the state began with.
        prompt_length: tokens of the request's prompt, the first of `initial_tokens`.
        is_greedy: it takes the most likely token, and nothing has to be done to its scores.
    """

    sampling: Sampling = field(default_factory=Sampling)
    first_index: int = 0
    prompt_length: int = 0
    account: str = ""
    is_greedy: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]  # untyped there
        self.is_greedy = replace(self.sampling, ignore_eos=False) == Sampling()

    @property
    def index(self) -> int:
        """Which of the request's sequences this is: one that was forked has its own."""
        _, mark, number = self.request_id.partition(CHILD_MARK)
        return int(number) + 1 if mark else self.first_index

    @property
    def prompt_ids(self) -> list[int]:
        return self.initial_tokens[: self.prompt_length]

    def to_generation_output(self) -> StateOutput:
        return StateOutput(
            request_id=self.request_id,
            tokens=self.generated_tokens,
            initial_length=len(self.initial_tokens),
            is_finished=self.status == RequestStatus.FINISHED,
            error=self.error,
        )

    def create_equivalent_initial_request(self) -> SequenceState:
        plain = super().create_equivalent_initial_request()
        values: dict[str, Any] = {f.name: getattr(plain, f.name) for f in fields(plain)}
        return SequenceState(
            **values,
            sampling=self.sampling,
            first_index=self.first_index,
            prompt_length=self.prompt_length,
            account=self.account,
        )


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
        sampling=request.sampling,
        first_index=sequence.index,
        prompt_length=sequence.prompt_length,
        account=request.account,
    )


def finish_reason(sequence: Sequence, last_token: int, eos_ids: tuple[int, ...]) -> FinishReason:
    """Return why the library ended the sequence: an end token, or its length."""
    is_end = last_token in eos_ids and not sequence.request.sampling.ignore_eos
    return FinishReason.STOP if is_end else FinishReason.LENGTH


def child_id(parent_id: str, number: int) -> str:
    """Return the id that the library gives to a forked state."""
    return f"{parent_id}{CHILD_MARK}{number}"


def children_of(state: RequestState) -> list[str]:
    """Return the ids of the sequences that will be forked from the state."""
    return [child_id(state.request_id, number) for number in range(state.num_children)]
