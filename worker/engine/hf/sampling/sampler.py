"""Samples each row of scores by its own request, in place of the library's logits processors.

The library takes the token with the greatest score of each row. The sampler leaves greedy rows
unchanged. In other rows it draws a token and raises its score above all others.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.generation.continuous_batching.requests import RequestState

from core.generation import MAX_LOGPROBS
from worker.engine.hf.sampling.draw import draw, draw_static
from worker.engine.hf.sampling.noise import row_key
from worker.engine.hf.sampling.penalties import PenaltyTable
from worker.engine.hf.sampling.rows import (
    GREEDY_ROW,
    ROW_TENSORS,
    RowValues,
    draw_args,
    end_bans,
    penalty_args,
    store_rows,
)
from worker.engine.hf.state.sequence import SequenceState
from worker.engine.protocol import Sampling, TokenLogprob


@dataclass(slots=True)
class SamplingPlan:
    """The work of the next step, which the host knows before it runs.

    Attributes:
        library_ids: the states in the batch.
        sampled: rows to draw by noise; `penalized` and `end_banned` are lists of rows too.
        with_logprobs: rows whose log probabilities are reported, by library id.
    """

    library_ids: list[str] = field(default_factory=list)
    sampled: list[int] = field(default_factory=list)
    penalized: list[int] = field(default_factory=list)
    end_banned: list[int] = field(default_factory=list)
    with_logprobs: dict[str, int] = field(default_factory=dict)

    @property
    def is_plain(self) -> bool:
        """Whether every row is greedy and reports nothing."""
        return not (self.sampled or self.penalized or self.end_banned or self.with_logprobs)


@dataclass(frozen=True, slots=True)
class RowLogprobs:
    """The log probabilities of one row, and its most likely tokens.

    Attributes:
        logprobs: of all tokens, shape (vocabulary,).
        top_values: log probabilities of the most likely tokens, shape (tokens,), best first.
        top_ids: ids of the most likely tokens, shape (tokens,).
    """

    logprobs: torch.Tensor
    top_values: torch.Tensor
    top_ids: torch.Tensor


class Sampler:
    """Implements the methods that the library calls on its list of logits processors.

    Attributes:
        is_static: run the same operations at every step, which captured graphs and asynchronous
            batching need. Otherwise a step runs only the operations that its rows need.
        steps: forward passes prepared so far.
        on_step: called with the library's requests of the next step.
        plan: plan of the step prepared last.
    """

    tensors_required = ROW_TENSORS
    do_processing = True
    logits_processor: tuple[()] = ()

    def __init__(
        self,
        *,
        is_live: Callable[[str], bool],
        vocab_size: int,
        eos_ids: tuple[int, ...],
        max_rows: int,
        device: torch.device,
        is_static: bool = False,
    ) -> None:
        self._is_live = is_live
        self._eos = torch.tensor(eos_ids, dtype=torch.long, device=device)
        self._vocab_size = vocab_size
        self._max_rows = max_rows
        self._device = device
        self._table: PenaltyTable | None = self._new_table() if is_static else None
        self._logprobs: dict[str, RowLogprobs] = {}
        self.is_static = is_static
        self.plan = SamplingPlan()
        self.steps = 0
        self.on_step: Callable[[Items[Any]], None] = lambda requests: None

    def check_kwargs(self, kwargs: dict[str, Any]) -> None:
        """Accept all; the sampler reads its values from our states, not from these."""

    def clear(self) -> None:
        """Do nothing; the library clears its own list when it has no requests."""

    def fill_defaults(self, storage: torch.Tensor) -> None:
        """Fill the storage, of shape (`ROW_TENSORS`, rows), with the values of greedy rows."""
        store_rows(storage, [], count=storage.shape[1])

    def prepare_tensor_args(
        self, requests_in_batch: Items[Any], arg_storage: torch.Tensor
    ) -> torch.Tensor:
        """Plan the next step and store the values of its rows.

        Args:
            arg_storage: 32-bit integers of shape (`ROW_TENSORS`, rows), written in place.
        """
        self.steps += 1
        self.on_step(requests_in_batch)
        self.plan = SamplingPlan([r.state.request_id for r in requests_in_batch])
        states = [r.state for r in requests_in_batch if r.has_new_token]
        if self._table is not None:
            ended = [i for i in self._table.owners() if not self._is_live(i)]
            self._table.release(ended)
        values = [self._plan_row(row, state) for row, state in enumerate(states)]
        if self.is_static or not self.plan.is_plain:
            store_rows(arg_storage, values, count=self._max_rows if self.is_static else len(values))
        return arg_storage

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, args: torch.Tensor
    ) -> torch.Tensor:
        """Return the scores with the drawn token of each sampled row on top.

        Args:
            input_ids: input tokens of the step, shape (rows,).
            scores: logits of shape (rows, vocabulary); may be changed in place.
            args: stored values of the rows, shape (`ROW_TENSORS`, at least rows).
        """
        if self.is_static:
            return self._process_static(input_ids, scores, args)
        plan = self.plan
        if plan.is_plain:
            return scores
        if plan.with_logprobs:
            self._store_logprobs(scores)
        if plan.penalized:
            rows = self._rows(plan.penalized)
            scores[rows] = self._penalize(input_ids[rows], scores[rows], args[:, rows])
        if plan.end_banned:
            scores[self._rows(plan.end_banned)[:, None], self._eos] = float("-inf")
        if plan.sampled:
            rows = self._rows(plan.sampled)
            scores[rows, draw(scores[rows], draw_args(args[:, rows]))] = float("inf")
        return scores

    def logprob_of(self, library_id: str, token: int, count: int) -> TokenLogprob:
        """Return the log probability of a token in the last step.

        Args:
            count: number of most likely tokens to report too.
        """
        report = self._logprobs[library_id]
        values, ids = report.top_values[:count].tolist(), report.top_ids[:count].tolist()
        return TokenLogprob(float(report.logprobs[token]), tuple(zip(ids, values, strict=True)))

    def _plan_row(self, row: int, state: RequestState) -> RowValues:
        """Add a row to the plan and return its values."""
        if not isinstance(state, SequenceState) or state.is_greedy:
            return GREEDY_ROW  # the library's warm-up uses states of its own class
        sampling = state.sampling
        position = state.position_offset
        low = high = slot = 0
        if sampling.temperature > 0:
            self.plan.sampled.append(row)
            low, high = row_key(sampling.seed, state.index, position)
        is_end_banned = position - state.prompt_length < sampling.min_tokens
        if is_end_banned:
            self.plan.end_banned.append(row)
        if _has_penalties(sampling):
            self.plan.penalized.append(row)
            slot = self._slot(state)
        if sampling.logprobs is not None:
            self.plan.with_logprobs[state.request_id] = row
        return RowValues(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            repetition=sampling.repetition_penalty,
            presence=sampling.presence_penalty,
            frequency=sampling.frequency_penalty,
            top_k=sampling.top_k,
            key_low=low,
            key_high=high,
            is_end_banned=is_end_banned,
            slot=slot,
            is_generated=position > state.prompt_length,
        )

    def _slot(self, state: SequenceState) -> int:
        """Return the row of the penalty table of a state."""
        if self._table is None:
            self._table = self._new_table()
        tokens = [*state.initial_tokens, *state.generated_tokens]
        return self._table.slot(
            state.request_id,
            prompt=state.prompt_ids,
            generated=tokens[state.prompt_length : state.position_offset - 1],
            is_fresh=state.position_offset == len(state.initial_tokens),
            in_batch=self.plan.library_ids,
        )

    def _process_static(
        self, input_ids: torch.Tensor, scores: torch.Tensor, args: torch.Tensor
    ) -> torch.Tensor:
        """Do `__call__` by the same operations for all rows; shapes are the same."""
        args = args[:, : scores.shape[0]]
        scores = self._penalize(input_ids, scores, args)
        is_end_banned = end_bans(args)[:, None]
        ends = scores[:, self._eos].masked_fill(is_end_banned, float("-inf"))
        scores = scores.index_copy(1, self._eos, ends)
        drawing = draw_args(args)
        tokens = draw_static(scores, drawing)[:, None]
        is_sampled = drawing.temperature[:, None] > 0
        raised = scores.gather(1, tokens).masked_fill(is_sampled, float("inf"))
        return scores.scatter(1, tokens, raised)

    def _penalize(
        self, input_ids: torch.Tensor, scores: torch.Tensor, args: torch.Tensor
    ) -> torch.Tensor:
        """Return the scores, shape (rows, vocabulary), with the penalties of these rows."""
        assert self._table is not None
        return self._table.apply(scores, input_ids, penalty_args(args))

    def _store_logprobs(self, scores: torch.Tensor) -> None:
        """Store log probabilities of the model's own scores, shape (rows, vocabulary)."""
        library_ids = list(self.plan.with_logprobs)
        rows = self._rows(list(self.plan.with_logprobs.values()))
        logprobs = scores[rows].log_softmax(-1)
        values, ids = logprobs.topk(min(MAX_LOGPROBS, logprobs.shape[1]), dim=-1)
        self._logprobs = {
            library_id: RowLogprobs(logprobs[i], values[i], ids[i])
            for i, library_id in enumerate(library_ids)
        }

    def _rows(self, rows: list[int]) -> torch.Tensor:
        """Return row numbers as indices on the device, shape (rows,)."""
        return torch.tensor(rows, dtype=torch.long, device=self._device)

    def _new_table(self) -> PenaltyTable:
        return PenaltyTable(slots=self._max_rows, vocab_size=self._vocab_size, device=self._device)


def _has_penalties(sampling: Sampling) -> bool:
    return (
        sampling.repetition_penalty != 1.0
        or sampling.presence_penalty != 0.0
        or sampling.frequency_penalty != 0.0
    )
