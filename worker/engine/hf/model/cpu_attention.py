"""FlashAttention's two functions in torch, so that a CPU runs the same library code as a GPU.

`install` registers them with the library as the attention `cpu_flash`. Block tables, the decode
path and the absence of masks are then the same on both devices. One step differs: where some
sequences decode beside prompts, the CPU does not copy their caches (`cpu_mixed_step.py`).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import transformers.modeling_flash_attention_utils as flash_utils
from transformers.generation.continuous_batching.cache_allocators import FULL_ATTENTION
from transformers.integrations.flash_attention import flash_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from worker.engine.hf.model.cpu_mixed_step import MixedPlan, mixed_plan_for
from worker.engine.hf.model.cpu_pages import PagePlan, plan_for

NAME = "cpu_flash"

#: Torch's CPU kernel. It returns the result and the logarithm of each row's total weight.
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


def install() -> None:
    """Register the functions with the library; safe to call twice."""
    if NAME in ALL_ATTENTION_FUNCTIONS.valid_keys():
        return
    ALL_ATTENTION_FUNCTIONS.register(NAME, attention_forward)
    lazy_imports = flash_utils._lazy_imports

    def with_stand_ins(implementation: str | None, *args: Any, **kwargs: Any) -> Any:
        if implementation != NAME:
            return lazy_imports(implementation, *args, **kwargs)
        pads = (flash_utils._pad_input, flash_utils._unpad_input)
        return (None, attend_ragged, attend_cached, *pads)

    flash_utils._lazy_imports = with_stand_ins


def attention_forward(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as the library does, without copies if some sequences decode.

    Args:
        query: shape (1, heads, tokens, size).
        key: shape (1, groups, tokens, size), as is `value`; each group serves several heads.

    Returns:
        The output, shape (1, tokens, heads, size), and no weights.
    """
    step = _mixed_step(module.layer_idx, key.dtype, kwargs)
    if step is None:
        out: tuple[torch.Tensor, None] = flash_attention_forward(
            module, query, key, value, attention_mask, **kwargs
        )
        return out
    allocator, written, plan = step
    k_cache, v_cache = allocator._kv_token_views[module.layer_idx]
    k_cache.index_copy_(0, written, key[0].transpose(0, 1))
    v_cache.index_copy_(0, written, value[0].transpose(0, 1))
    k_pages, v_pages = allocator.get_cache_for_block_table(module.layer_idx)
    tokens, scale = query[0].transpose(0, 1), kwargs.get("scaling")
    return attend_mixed(tokens, k_cache, v_cache, k_pages, v_pages, plan, scale)[None], None


def _mixed_step(
    layer: int, dtype: torch.dtype, kwargs: dict[str, Any]
) -> tuple[Any, torch.Tensor, MixedPlan] | None:
    """Return the layer's allocator, the cache positions to write and the plan.

    Returns `None` if the library's own path serves the step: it has a block table, no sequence
    decodes, nothing is cached, or the layer's attention is not full.
    """
    cache = kwargs.get("cache")
    if cache is None or kwargs.get("block_table") is not None:
        return None
    allocator = cache.layer_to_allocator[layer]
    read_index = kwargs["read_index"][allocator.index]
    if allocator.layer_type != FULL_ATTENTION or not len(read_index):
        return None
    plan = mixed_plan_for(
        layer,
        read_index,
        kwargs["cu_seq_lens_q"],
        kwargs["cu_seq_lens_k"][FULL_ATTENTION],
        page_size=allocator.tokens_per_page,
        dtype=dtype,
    )
    if plan.pages is None:
        return None
    return allocator, kwargs["write_index"][allocator.index], plan


def attend_mixed(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    k_pages: torch.Tensor,
    v_pages: torch.Tensor,
    plan: MixedPlan,
    scale: float | None = None,
) -> torch.Tensor:
    """Attend to caches that already hold the keys and values of the step's tokens.

    Args:
        q: queries of all sequences end to end, shape (tokens, heads, size).
        k_cache: cached keys by token, shape (cached tokens, groups, size), as is `v_cache`.
        k_pages: the same keys by page, shape (pages, page size, groups, size), as is `v_pages`.

    Returns:
        The output, shape (tokens, heads, size).
    """
    out = torch.empty_like(q)
    if plan.pages is not None:
        out[plan.decoding] = _attend_pages(q[plan.decoding], k_pages, v_pages, plan.pages, scale)
    for prompt in plan.prompts:
        k, v = (cache[prompt.cached].transpose(0, 1)[None] for cache in (k_cache, v_cache))
        out[prompt.tokens] = _attend_one(q[prompt.tokens], k, v, scale)
    return out


def attend_ragged(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    softmax_scale: float | None = None,
    causal: bool = True,
) -> torch.Tensor:
    """Attend within each of several sequences laid end to end, as `flash_attn_varlen_func`.

    The last query of a sequence sees all of its keys.

    Args:
        q: queries, shape (tokens, heads, size).
        k: keys, shape (cached tokens, groups, size), as is `v`; each group serves several heads.
        cu_seqlens_q: start of each sequence's queries and the end of the last, shape
            (sequences + 1,); `cu_seqlens_k` is the same for keys.

    Returns:
        The output, shape (tokens, heads, size).
    """
    queries, keys = cu_seqlens_q.diff().tolist(), cu_seqlens_k.diff().tolist()
    k, v = k.transpose(0, 1)[None], v.transpose(0, 1)[None]
    pieces = zip(
        torch.split(q, queries),
        torch.split(k, keys, dim=2),
        torch.split(v, keys, dim=2),
        strict=True,
    )
    return torch.cat([_attend_one(*piece, softmax_scale) for piece in pieces])


def _attend_one(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None
) -> torch.Tensor:
    """Attend within one sequence.

    Args:
        q: queries, shape (tokens, heads, size).
        k: keys, shape (1, groups, cached tokens, size), as is `v`.

    Returns:
        The output, shape (tokens, heads, size).
    """
    tokens, heads, size = q.shape
    groups, length = k.shape[1:3]
    if tokens == 1:
        q = q.reshape(1, groups, heads // groups, size)
        one: torch.Tensor = _flash(q, k, v, scale=scale)[0]
        return one.reshape(1, heads, size)
    mask = None
    if tokens != length:
        mask = torch.ones(tokens, length, dtype=torch.bool).tril_(length - tokens)
    out = F.scaled_dot_product_attention(
        q.transpose(0, 1)[None],
        k,
        v,
        attn_mask=mask,
        is_causal=mask is None,
        scale=scale,
        enable_gqa=True,
    )
    return out[0].transpose(0, 1)


def attend_cached(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cache_seqlens: torch.Tensor,
    block_table: torch.Tensor,
    softmax_scale: float | None = None,
    causal: bool = True,
) -> torch.Tensor:
    """Add one token to each sequence's cache and attend to it, as `flash_attn_with_kvcache`.

    Args:
        q: queries, shape (sequences, 1, heads, size).
        k_cache: pages of keys, shape (pages, page size, groups, size), as is `v_cache`; written.
        k: new keys, shape (sequences, 1, groups, size), as is `v`.
        cache_seqlens: cached tokens of each sequence before this step, shape (sequences,).
        block_table: pages of each sequence, shape (sequences, most pages).

    Returns:
        The output, shape (sequences, 1, heads, size).
    """
    plan = plan_for(k_cache, cache_seqlens, block_table, dtype=q.dtype)
    k_cache.flatten(0, 1).index_copy_(0, plan.written, k[:, 0])
    v_cache.flatten(0, 1).index_copy_(0, plan.written, v[:, 0])
    return _attend_pages(q[:, 0], k_cache, v_cache, plan, softmax_scale)[:, None]


def _attend_pages(
    q: torch.Tensor,
    k_pages: torch.Tensor,
    v_pages: torch.Tensor,
    plan: PagePlan,
    scale: float | None,
) -> torch.Tensor:
    """Attend with one query of each sequence to all of its pages.

    Args:
        q: queries, shape (sequences, heads, size).
        k_pages: keys, shape (pages, page size, groups, size), as is `v_pages`.

    Returns:
        The output, shape (sequences, heads, size).
    """
    rows, heads, size = q.shape
    groups = k_pages.shape[2]
    out, weight = _flash(
        q.view(rows, groups, heads // groups, size)[plan.owner],
        k_pages[plan.pages, : plan.width].transpose(1, 2),
        v_pages[plan.pages, : plan.width].transpose(1, 2),
        attn_mask=plan.mask,
        scale=scale,
    )
    return _merge(out, weight, plan).reshape(rows, heads, size)


def _merge(out: torch.Tensor, weight: torch.Tensor, plan: PagePlan) -> torch.Tensor:
    """Combine the outputs of each sequence's pages by the logarithm of each page's weight.

    Args:
        out: shape (pages, groups, queries, size).
        weight: shape (pages, groups, queries); its memory order may differ.

    Returns:
        The output, shape (sequences, groups, queries, size).
    """
    if plan.absent is None:
        return out[plan.grid]
    shares = weight[plan.grid].masked_fill_(plan.absent, float("-inf"))
    shares = (shares - shares.amax(1, keepdim=True)).exp_()  # softmax is slow across this axis
    shares /= shares.sum(1, keepdim=True)
    return (out[plan.grid] * shares[..., None].to(out.dtype)).sum(1)
