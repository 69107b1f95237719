"""Fills block tables fast on a CPU: each step fills one row for each sequence."""

from __future__ import annotations

import torch
from transformers.generation.continuous_batching.cache_allocators import (
    FullAttentionCacheAllocator,
)


class FastTableAllocator(FullAttentionCacheAllocator):
    """The library's allocator, without a new tensor for each sequence of a step.

    On a CPU those tensors took a sixth of a step's time outside of the forward pass.
    """

    def fill_block_table(
        self, request_id: str, past_length: int, query_length: int, block_table: torch.Tensor
    ) -> None:
        """Write the pages of one sequence into its row, of shape (most pages,)."""
        if block_table.device.type != "cpu":
            super().fill_block_table(request_id, past_length, query_length, block_table)
            return
        pages = self.block_table[request_id]
        stride = self.block_physical_stride // self.tokens_per_page
        block_table.numpy()[: len(pages)] = [page * stride for page in pages]
