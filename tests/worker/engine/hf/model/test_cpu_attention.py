"""Attention on a CPU equals plain attention for every layout of the cache."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from worker.engine.hf.model.cpu_attention import attend_cached, attend_mixed, attend_ragged
from worker.engine.hf.model.cpu_mixed_step import make_mixed_plan
from worker.engine.hf.model.cpu_pages import make_plan
from worker.engine.hf.model.weights import PackedLinear, pack_weights

HEADS, GROUPS, SIZE, PAGE = 6, 2, 16, 8


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return plain causal attention of one sequence: its last query sees all keys."""
    k, v = (x.repeat_interleave(HEADS // GROUPS, 1).double() for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q.double(), k) / SIZE**0.5
    queries, keys = scores.shape[1:]
    visible = torch.ones(queries, keys).tril(keys - queries).bool()
    share = scores.masked_fill(~visible, float("-inf")).softmax(-1)
    return torch.einsum("hqk,khd->qhd", share, v)


@pytest.mark.parametrize(
    ("lengths", "tables"),
    [
        ([0], [[3]]),
        ([7, 8, 20], [[9], [6, 3], [24, 21, 18]]),
        ([5, 17, 2], [[40], [2, 1, 30], [7]]),
        ([15, 12], [[4, 5], [4, 9]]),
        ([7, 7, 7], [[30], [1], [12]]),
    ],
    ids=["one", "in place", "far apart", "shared", "single pages"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cached_attention_is_exact_for_every_layout_of_pages(
    lengths: list[int], tables: list[list[int]], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    rows = len(lengths)
    k_cache, v_cache = (torch.randn(48, PAGE, GROUPS, SIZE).to(dtype) for _ in range(2))
    q = torch.randn(rows, 1, HEADS, SIZE).to(dtype)
    k, v = (torch.randn(rows, 1, GROUPS, SIZE).to(dtype) for _ in range(2))
    table = torch.full((rows, 6), -1, dtype=torch.int32)
    for row, pages in enumerate(tables):
        table[row, : len(pages)] = torch.tensor(pages)

    out = attend_cached(q, k_cache, v_cache, k, v, torch.tensor(lengths).int(), table)

    for row, (length, pages) in enumerate(zip(lengths, tables, strict=True)):
        keys, values = (c[pages].flatten(0, 1)[: length + 1] for c in (k_cache, v_cache))
        assert torch.equal(keys[-1], k[row, 0]) and torch.equal(values[-1], v[row, 0])
        expected = attend(q[row], keys, values)
        tolerance = 1e-5 if dtype is torch.float32 else 2e-2
        assert torch.allclose(out[row].double(), expected, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mixed_attention_is_exact_for_decoding_sequences_and_for_prompts(
    dtype: torch.dtype,
) -> None:
    torch.manual_seed(0)
    queries, keys, tables = [1, 5, 1, 3], [20, 5, 3, 12], [[9, 4, 30], [7], [2], [11, 40]]
    k_pages, v_pages = (torch.randn(48, PAGE, GROUPS, SIZE).to(dtype) for _ in range(2))
    k_cache, v_cache = k_pages.flatten(0, 1), v_pages.flatten(0, 1)
    q = torch.randn(sum(queries), HEADS, SIZE).to(dtype)
    positions = [
        torch.tensor([page * PAGE + i for page in pages for i in range(PAGE)][:length])
        for pages, length in zip(tables, keys, strict=True)
    ]
    ends = [torch.tensor([0, *lengths]).cumsum(0).tolist() for lengths in (queries, keys)]
    plan = make_mixed_plan(torch.cat(positions), *ends, PAGE, dtype)

    out = attend_mixed(q, k_cache, v_cache, k_pages, v_pages, plan)

    assert plan.decoding.tolist() == [0, 6] and len(plan.prompts) == 2
    pairs = zip(q.split(queries), positions, strict=True)
    expected = torch.cat([attend(query, k_cache[at], v_cache[at]) for query, at in pairs])
    tolerance = 1e-5 if dtype is torch.float32 else 2e-2
    assert torch.allclose(out.double(), expected, atol=tolerance)


def test_ragged_attention_is_exact_for_prompts_parts_of_prompts_and_single_tokens() -> None:
    torch.manual_seed(0)
    queries, keys = [5, 1, 4, 1], [5, 9, 11, 1]
    q = torch.randn(sum(queries), HEADS, SIZE)
    k, v = (torch.randn(sum(keys), GROUPS, SIZE) for _ in range(2))
    ends = [torch.tensor([0, *lengths]).cumsum(0).int() for lengths in (queries, keys)]

    out = attend_ragged(q, k, v, *ends)

    sequences = zip(q.split(queries), k.split(keys), v.split(keys), strict=True)
    expected = torch.cat([attend(*sequence) for sequence in sequences])
    assert torch.allclose(out.double(), expected, atol=1e-5)


def test_pages_at_even_distances_are_read_in_place() -> None:
    """A slice of the cache is a view; an index would copy the pages."""
    plan = make_plan(
        torch.tensor([20, 5]),
        torch.tensor([[30, 24, 18], [12, -1, -1]]),
        page_size=PAGE,
        dtype=torch.float32,
    )

    assert plan.pages == slice(12, 31, 6)


def test_importing_the_stand_ins_registers_nothing() -> None:
    code = (
        "import worker.engine.hf.model.cpu_attention\n"
        "from worker.engine.hf.scheduling import prefix_isolation, scheduler\n"
        "from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS as known\n"
        "assert 'cpu_flash' not in known.valid_keys()\n"
        "import transformers.modeling_flash_attention_utils as f\n"
        "assert f._lazy_imports.__module__ == f.__name__\n"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_packed_weights_compute_the_same_and_keep_their_type() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 48), nn.Linear(48, 32, bias=False))
    inputs = {rows: torch.randn(1, rows, 64) for rows in (1, 7, 32, 200)}
    expected = {rows: model(x) for rows, x in inputs.items()}

    pack_weights(model)

    assert all(type(module) is PackedLinear for module in model)
    assert (
        next(m for m in model.modules() if isinstance(m, nn.Linear)).weight.dtype is torch.float32
    )
    for rows, x in inputs.items():
        assert torch.allclose(model(x), expected[rows], atol=1e-5)
