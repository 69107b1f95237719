"""Plans attention for a step where some sequences decode and others compute their prompts.

In such a step the library copies the cached tokens of all sequences, to lay them end to end. This
plan reads decoding sequences in place, as in a step where all decode, and copies prompts only.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import torch

from worker.engine.hf.model.cpu_pages import PagePlan, make_plan


@dataclass(frozen=True, slots=True)
class PromptChunk:
    """A sequence with more than one token in the step.

    Attributes:
        tokens: its range among the step's tokens.
        cached: cache positions of all its tokens, counted from the first page, shape (tokens,).
    """

    tokens: slice
    cached: torch.Tensor


@dataclass(frozen=True, slots=True)
class MixedPlan:
    """The attention of one step, computed once for all layers.

    Attributes:
        decoding: positions of decoding sequences among the step's tokens, shape (sequences,).
        pages: the cached pages of those sequences; `None` if no sequence decodes.
        read_index: the library's index that the plan was made from.
        layers: layers that have used the plan.
    """

    decoding: torch.Tensor
    pages: PagePlan | None
    prompts: list[PromptChunk]
    read_index: torch.Tensor
    layers: set[int] = field(default_factory=set)


class _LastMixedPlan(threading.local):
    plan: MixedPlan | None = None


_last = _LastMixedPlan()


def mixed_plan_for(
    layer: int,
    read_index: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    *,
    page_size: int,
    dtype: torch.dtype,
) -> MixedPlan:
    """Return the plan of the current step; the next step starts when a layer repeats.

    Args:
        read_index: cache positions of all tokens, one sequence after another, shape (tokens,).
        cu_seqlens_q: start of each sequence's queries and the end of the last, shape
            (sequences + 1,); `cu_seqlens_k` is the same for keys.
    """
    plan = _last.plan
    if plan is None or layer in plan.layers or plan.read_index is not read_index:
        plan = _last.plan = make_mixed_plan(
            read_index, cu_seqlens_q.tolist(), cu_seqlens_k.tolist(), page_size, dtype
        )
    plan.layers.add(layer)
    return plan


def make_mixed_plan(
    read_index: torch.Tensor,
    query_ends: list[int],
    key_ends: list[int],
    page_size: int,
    dtype: torch.dtype,
) -> MixedPlan:
    """Return a plan: which sequences decode, the pages of those, and which are prompts.

    Args:
        read_index: cache positions of all tokens, one sequence after another, shape (tokens,).
        query_ends: start of each sequence's queries and the end of the last.
        key_ends: the same for keys.
    """
    decoding, lengths, tables, prompts = [], [], [], []
    for row, begin in enumerate(query_ends[:-1]):
        cached = read_index[key_ends[row] : key_ends[row + 1]]
        if query_ends[row + 1] - begin == 1:
            decoding.append(begin)
            lengths.append(len(cached) - 1)
            tables.append((cached[::page_size] // page_size).tolist())
        else:
            prompts.append(PromptChunk(slice(begin, query_ends[row + 1]), cached))
    pages = None
    if decoding:
        most = max(map(len, tables))
        table = torch.tensor([pages + [-1] * (most - len(pages)) for pages in tables])
        pages = make_plan(torch.tensor(lengths), table, page_size=page_size, dtype=dtype)
    return MixedPlan(torch.tensor(decoding, dtype=torch.long), pages, prompts, read_index)
