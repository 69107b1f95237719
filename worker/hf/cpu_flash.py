"""Stand-ins in torch for FlashAttention's two functions, so that a CPU runs the GPU's own branch.

`install` registers them with the library as the attention `cpu_flash`: no masks, block tables and
the decode path are then the same code on both.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import transformers.modeling_flash_attention_utils as flash_utils
from transformers.integrations.flash_attention import flash_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from worker.hf.cpu_pages import PagePlan, plan_for

NAME = "cpu_flash"

#: Torch's own kernel for a CPU: besides the result it gives the log of each row's total weight.
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


def install() -> None:
    """Register the stand-ins with the library; safe to call twice."""
    if NAME in ALL_ATTENTION_FUNCTIONS.valid_keys():
        return
    ALL_ATTENTION_FUNCTIONS.register(NAME, flash_attention_forward)
    lazy_imports = flash_utils._lazy_imports

    def with_stand_ins(implementation: str | None, *args: Any, **kwargs: Any) -> Any:
        if implementation != NAME:
            return lazy_imports(implementation, *args, **kwargs)
        pads = (flash_utils._pad_input, flash_utils._unpad_input)
        return (None, attend_ragged, attend_cached, *pads)

    flash_utils._lazy_imports = with_stand_ins


def attend_ragged(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    softmax_scale: float | None = None,
    causal: bool = True,
) -> torch.Tensor:
    """Attend within each of many sequences laid end to end, as `flash_attn_varlen_func`.

    The last query of a sequence sees all of its keys.

    Args:
        q: queries, shape (tokens, heads, size); keys and values may have fewer heads.
        cu_seqlens_q: where each sequence's queries begin, and the end of the last.
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
    """Attend within one sequence; keys and values have the shape (1, groups, tokens, size)."""
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
    """Add one token to each sequence's cache and attend to all of it, as `flash_attn_with_kvcache`.

    Args:
        q: queries, shape (sequences, 1, heads, size).
        k_cache: pages of keys, shape (pages, tokens, heads, size).
        cache_seqlens: cached tokens of each sequence before this one.
        block_table: pages of each sequence, shape (sequences, most pages).
    """
    rows, _, heads, size = q.shape
    plan = plan_for(k_cache, cache_seqlens, block_table, dtype=q.dtype)
    k_cache.flatten(0, 1).index_copy_(0, plan.written, k[:, 0])
    v_cache.flatten(0, 1).index_copy_(0, plan.written, v[:, 0])
    groups = k_cache.shape[2]
    out, weight = _flash(
        q.view(rows, groups, heads // groups, size)[plan.owner],
        k_cache[plan.pages, : plan.width].transpose(1, 2),
        v_cache[plan.pages, : plan.width].transpose(1, 2),
        attn_mask=plan.mask,
        scale=softmax_scale,
    )
    return _merge(out, weight, plan).reshape(rows, 1, heads, size)


def _merge(out: torch.Tensor, weight: torch.Tensor, plan: PagePlan) -> torch.Tensor:
    """Put together what each sequence found in its pages, by the log of each page's total weight.

    Args:
        out: shape (pages, groups, queries, size).
        weight: shape (pages, groups, queries) in memory order that may differ.
    """
    if plan.absent is None:
        return out[plan.grid]
    shares = weight[plan.grid].masked_fill_(plan.absent, float("-inf"))
    shares = (shares - shares.amax(1, keepdim=True)).exp_()  # softmax is slow across this axis
    shares /= shares.sum(1, keepdim=True)
    return (out[plan.grid] * shares[..., None].to(out.dtype)).sum(1)
