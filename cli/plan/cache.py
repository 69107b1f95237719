"""Compute how many tokens the engine's attention cache holds.

The library sizes the cache by the GPU's free memory. This module does the same arithmetic without
a GPU; `tests/worker/engine/hf/model/test_planned_memory.py` compares both.
"""

from __future__ import annotations

from dataclasses import dataclass

from cli.plan.model_shape import ModelShape
from cli.plan.weights import BF16_BYTES

#: Tokens of a page, if ENGINE_PAGE_SIZE is not set (`worker/engine/hf/loop.py`).
PAGE_SIZE = 256
#: The library leaves the rest of the memory to temporary tensors.
MEMORY_SHARE = 0.9
#: Pages that the library reserves for padding.
_SPARE_PAGES = 2
_INT32, _INT64, _FLOAT32 = 4, 8, 4
#: Rows of int32 of each token of a step: inputs and outputs.
_ROWS_IN, _ROWS_OUT = 7, 1


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """The engine's settings that its cache depends on."""

    max_sequences: int
    max_batch_tokens: int
    page_size: int = PAGE_SIZE
    async_batching: bool = False


def cache_tokens(
    shape: ModelShape, *, memory_bytes: int, weights: int, options: CacheOptions
) -> int:
    """Return the tokens that fit beside the weights, in whole pages.

    Args:
        memory_bytes: total memory of the GPU.
        weights: bytes of the weights.
    """
    available = int((memory_bytes - weights) * MEMORY_SHARE)
    page_bytes = options.page_size * shape.cache_bytes_per_token(BF16_BYTES)
    fixed = _SPARE_PAGES * page_bytes + options.max_sequences * _logits_bytes(shape)
    fixed += options.max_batch_tokens * _step_token_bytes(shape, options)
    # Reading a cached token needs memory too: its key and value in one layer, and its index.
    vector = shape.num_key_value_heads * shape.head_dim * BF16_BYTES
    read_bytes = 2 * vector + _copies(options) * _INT64
    pages = (available - fixed) // (page_bytes + options.page_size * read_bytes)
    return max(0, pages) * options.page_size


def padded(tokens: int, page_size: int) -> int:
    """Return the number of tokens rounded up to whole pages."""
    return -(-tokens // page_size) * page_size


def _logits_bytes(shape: ModelShape) -> int:
    return shape.hidden_size * BF16_BYTES + shape.vocab_size * _FLOAT32


def _step_token_bytes(shape: ModelShape, options: CacheOptions) -> int:
    """Return the bytes of one token of a step: in a layer, and as the step's input and output."""
    queries = shape.num_attention_heads * shape.head_dim
    keys = shape.num_key_value_heads * shape.head_dim
    layer = BF16_BYTES * (shape.hidden_size + queries + 2 * keys + 2 * keys)
    pages = padded(shape.max_position_embeddings, options.page_size) // options.page_size
    around = (_ROWS_IN + _ROWS_OUT + pages) * _INT32 + 2 * _INT64
    return layer + _copies(options) * around


def _copies(options: CacheOptions) -> int:
    """Return the number of steps whose inputs are in memory at once."""
    return 2 if options.async_batching else 1
