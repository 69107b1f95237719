"""Attention of a step in which some sequences decode while the prompts of others are computed.

The library copies all that such a step's sequences have in the cache, to lay it end to end. Here
those that decode are attended to where they are, as in a step where all decode, and only prompts
are copied.
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
        tokens: where they are among the step's tokens.
        cached: where all of its tokens are in the cache, counted from the first page.
    """

    tokens: slice
    cached: torch.Tensor


@dataclass(frozen=True, slots=True)
class MixedPlan:
    """What each layer of a step does; worked out once.

    Attributes:
        decoding: places of the tokens of sequences that decode, and `pages` where these lie.
        read_index: what the plan was made from; `layers` used it already.
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
    """Return the plan of the present step; a layer that comes again begins the next one.

    Args:
        read_index: where each sequence's tokens are in the cache, one sequence after another.
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
    """Work out which sequences decode and where their pages are, and which are prompts."""
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
