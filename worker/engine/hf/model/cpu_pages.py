"""Finds the cached pages of a step, once for all layers.

Pages at even distances are read in place, because copying them costs more than the attention.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

#: A slice may include unused pages between used ones, up to this multiple of the used pages.
MAX_SPREAD = 1.6
#: Masks a score in a softmax. Unlike minus infinity, it gives no NaN when all scores are masked.
MASKED = -1e30


@dataclass(frozen=True, slots=True)
class PagePlan:
    """The pages of the sequences of one step, as one selection of the cache.

    Attributes:
        lengths: cached tokens of each sequence before the step, shape (sequences,).
        pages: the selection: a slice of the cache, or indices if a slice would read too much.
        owner: the sequence that attends to each selected page, shape (pages,).
        mask: added to the scores, shape (pages, 1, 1, width).
        width: most tokens used of any page.
        grid: positions of each sequence's pages in the selection, shape (sequences, most pages), or
            (sequences,) if each has one page.
        absent: which cells of the grid have no page, shape (sequences, most pages, 1, 1); `None`
            if each sequence has one page.
        written: cache position of each sequence's new token, counted in tokens from the first
            page, shape (sequences,).
        layers: caches of the layers that have used the plan.
    """

    lengths: torch.Tensor
    pages: slice | torch.Tensor
    owner: torch.Tensor
    mask: torch.Tensor
    width: int
    grid: torch.Tensor
    absent: torch.Tensor | None
    written: torch.Tensor
    layers: set[int] = field(default_factory=set)


class _LastPagePlan(threading.local):
    plan: PagePlan | None = None


_last = _LastPagePlan()


def plan_for(
    k_cache: torch.Tensor,
    lengths: torch.Tensor,
    block_table: torch.Tensor,
    *,
    dtype: torch.dtype,
) -> PagePlan:
    """Return the plan of the current step; the next step starts when a layer repeats.

    Args:
        k_cache: pages of keys, shape (pages, page size, groups, size).
        lengths: cached tokens of each sequence before the step, shape (sequences,).
        block_table: pages of each sequence, shape (sequences, most pages).
    """
    layer = k_cache.data_ptr()
    plan = _last.plan
    if plan is None or layer in plan.layers or not torch.equal(plan.lengths, lengths):
        plan = _last.plan = make_plan(lengths, block_table, page_size=k_cache.shape[1], dtype=dtype)
    plan.layers.add(layer)
    return plan


def make_plan(
    lengths: torch.Tensor, block_table: torch.Tensor, *, page_size: int, dtype: torch.dtype
) -> PagePlan:
    """Return a plan of the pages that each sequence reads and the position it writes.

    Args:
        lengths: cached tokens of each sequence before the step, shape (sequences,).
        block_table: pages of each sequence, shape (at least sequences, at least most pages).
    """
    before = lengths.tolist()
    counts = [length // page_size + 1 for length in before]
    table = block_table[: len(before), : max(counts)].tolist()
    used = [(table[row][i], row, i) for row, count in enumerate(counts) for i in range(count)]
    pages, positions = _select([page for page, _, _ in used])
    owner = [0] * len(pages)
    valid = [1] * len(pages)
    grid = [[0] * max(counts) for _ in counts]
    for position, (_, row, i) in zip(positions, used, strict=True):
        owner[position] = row
        valid[position] = min(page_size, before[row] + 1 - i * page_size)
        grid[row][i] = position
    width = max(valid)
    outside = torch.arange(width)[None] >= torch.tensor(valid)[:, None]
    absent = torch.arange(max(counts)) >= torch.tensor(counts)[:, None]
    is_single = max(counts) == 1
    written = [
        table[row][length // page_size] * page_size + length % page_size
        for row, length in enumerate(before)
    ]
    return PagePlan(
        lengths=lengths.clone(),
        pages=_as_slice(pages),
        owner=torch.tensor(owner),
        mask=(outside * MASKED).to(dtype)[:, None, None],
        width=width,
        grid=torch.tensor(grid)[:, 0] if is_single else torch.tensor(grid),
        absent=None if is_single else absent[:, :, None, None],
        written=torch.tensor(written),
    )


def _select(used: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """Return the pages to read, and the position of each used page among them."""
    first, last = min(used), max(used)
    step = math.gcd(*(page - first for page in used)) or 1
    pages = range(first, last + 1, step)
    is_shared = len(set(used)) < len(used)
    if is_shared or len(pages) > MAX_SPREAD * len(used) + 2:
        return used, range(len(used))
    return pages, [(page - first) // step for page in used]


def _as_slice(pages: Sequence[int]) -> slice | torch.Tensor:
    if isinstance(pages, range):
        return slice(pages.start, pages.stop, pages.step)
    return torch.tensor(pages)
