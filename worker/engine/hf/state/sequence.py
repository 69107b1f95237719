"""One sequence of a request: our record, and the state that the library schedules."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from transformers.generation.continuous_batching.requests import RequestState, RequestStatus

from worker.engine.protocol import EngineRequest, FinishReason, Handle, Sampling

#: Separates the parent's id from the child's number in the library's id of a forked state.
CHILD_MARK = "__child#"


@dataclass(eq=False, slots=True)
class Sequence:
    """The engine's record of one sequence, across restarts and preemptions.

    Attributes:
        serial: order of arrival; earlier ones go first within an account.
        tokens: generated and delivered so far.
        library_id: its current id in the library; every resubmission has a new one.
        charged: prompt tokens charged to the account so far.
        is_held: it waits outside of the library while suspects of a failure run.
        is_cleared: it generated a token under its current id.
        strikes: failed batches that it was part of.
        tokens_when_preempted: its number of tokens when another account last preempted it.
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
    """The library's output for one state after a step.

    Attributes:
        tokens: generated since a preemption last reset the state; the live list, not a copy.
        initial_length: tokens that the state started with, those generated earlier included.
    """

    request_id: str
    tokens: list[int]
    initial_length: int
    is_finished: bool
    error: str | None


@dataclass
class SequenceState(RequestState):
    """The library's state with the values that sampling needs, on every rank.

    Unlike the library's class, it does not copy all of its tokens at every step.

    Attributes:
        first_index: index, among the `n` of the request, of the sequence that the state started as.
        prompt_length: length of the request's prompt, which starts `initial_tokens`.
        is_greedy: the most likely token of unchanged scores is drawn.
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
        """The index of the sequence in its request; a forked state has an index of its own."""
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
    """Return a state that continues `sequence` after its tokens so far.

    Args:
        children: number of states that the library forks from it after the prompt.
    """
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
    """Return `STOP` if the last token is an end token, else `LENGTH`."""
    is_end = last_token in eos_ids and not sequence.request.sampling.ignore_eos
    return FinishReason.STOP if is_end else FinishReason.LENGTH


def child_id(parent_id: str, number: int) -> str:
    """Return the library's id of a forked state."""
    return f"{parent_id}{CHILD_MARK}{number}"


def children_of(state: RequestState) -> list[str]:
    """Return the library's ids of the states to be forked from this one."""
    return [child_id(state.request_id, number) for number in range(state.num_children)]
