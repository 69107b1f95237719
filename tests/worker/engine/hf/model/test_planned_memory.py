"""`bountycoder plan` computes the numbers of the library and the engine without a GPU."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from transformers.generation.continuous_batching.cache import PagedAttentionMemoryHandler
from transformers.generation.continuous_batching.initialization import resolve_max_memory_percent

from cli.plan.cache import MEMORY_SHARE, PAGE_SIZE, CacheOptions, cache_tokens
from cli.plan.gpus import GIB
from cli.plan.model_shape import QWEN_CODER_32B, read_shape, shape_of
from cli.plan.weights import Weights, weight_bytes
from core.config.settings import Attention
from worker.engine.hf import loop
from worker.engine.hf.engine import HFEngine, LoopOptions
from worker.engine.hf.model.loading import adopt_model, load_model

#: The library's configuration of Qwen Coder 32B; tests never allocate its weights.
CONFIG = Qwen2Config(
    num_hidden_layers=64,
    hidden_size=5120,
    intermediate_size=27648,
    num_attention_heads=40,
    num_key_value_heads=8,
    vocab_size=152064,
    max_position_embeddings=32768,
)


class MemoryHandler(PagedAttentionMemoryHandler):
    """The library's sizing of the cache, for a GPU with `free_bytes` of free memory."""

    free_bytes: int

    def get_available_memory(self) -> int:
        return int(self.free_bytes * self.cb_config.max_memory_percent)


def library_tokens(free_bytes: int, options: CacheOptions) -> int:
    """Return the tokens of the cache that the library makes in the free memory."""
    config = Qwen2Config.from_dict(CONFIG.to_dict())
    config._attn_implementation_internal = "flash_attention_2"
    batching = ContinuousBatchingConfig(
        page_size=options.page_size,
        max_batch_tokens=options.max_batch_tokens,
        max_requests_per_batch=options.max_sequences,
        max_blocks_per_request=32768 // options.page_size,
        use_async_batching=options.async_batching,
    )
    resolve_max_memory_percent(batching, has_logit_processors=False, device=torch.device("cuda"))
    page_bytes = options.page_size * 64 * 2 * 8 * 128 * 2
    MemoryHandler.free_bytes = free_bytes
    handler = MemoryHandler(
        config=config,
        cb_config=batching,
        dtype=torch.bfloat16,
        bytes_per_sector=math.lcm(page_bytes, 128),
        tokens_per_sector=options.page_size,
        bytes_per_block=page_bytes,
        attn_types=["full_attention"],
        model_supports_logits_to_keep=True,
    )
    return int(handler.infer_max_batch_tokens_and_num_sectors()[1]) * options.page_size


@pytest.mark.parametrize(
    "options",
    [
        CacheOptions(max_sequences=32, max_batch_tokens=512),
        CacheOptions(max_sequences=7, max_batch_tokens=2048, page_size=128, async_batching=True),
    ],
)
@pytest.mark.parametrize("weights", Weights)
def test_the_planned_cache_has_the_size_of_the_librarys(
    weights: Weights, options: CacheOptions
) -> None:
    model_bytes, total = weight_bytes(QWEN_CODER_32B, weights), 79 * GIB

    planned = cache_tokens(QWEN_CODER_32B, memory_bytes=total, weights=model_bytes, options=options)

    assert planned > 40_000
    assert planned == library_tokens(total - model_bytes, options)


def test_the_plan_has_the_memory_share_and_page_size_of_the_engine() -> None:
    batching = ContinuousBatchingConfig()
    resolve_max_memory_percent(batching, has_logit_processors=False, device=torch.device("cuda"))

    assert batching.max_memory_percent == MEMORY_SHARE
    assert loop.PAGE_SIZE == PAGE_SIZE


def test_the_built_in_shape_has_the_parameters_of_the_model() -> None:
    with torch.device("meta"):
        model = Qwen2ForCausalLM(CONFIG)

    assert QWEN_CODER_32B.parameters == sum(p.numel() for p in model.parameters())
    assert shape_of(CONFIG.to_dict(), name=QWEN_CODER_32B.name) == QWEN_CODER_32B


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [False, True])
def test_parameters_are_counted_for_every_supported_model_type(kind: str, tied: bool) -> None:
    config = AutoConfig.for_model(
        kind,
        num_hidden_layers=3,
        hidden_size=64,
        intermediate_size=96,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        vocab_size=500,
        max_position_embeddings=512,
        sliding_window=None,
        tie_word_embeddings=tied,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    if tied:
        model.tie_weights()

    shape = shape_of(config.to_dict(), name=kind)

    assert shape.parameters == sum(p.numel() for p in model.parameters())


def test_the_engine_of_the_small_model_allocates_the_planned_cache(model_dir: Path) -> None:
    model = load_model(str(model_dir), attention=Attention.AUTO).model
    shape = read_shape(model_dir)
    engine = HFEngine(
        loaded=adopt_model(model), options=LoopOptions(max_sequences=2, cache_blocks=4)
    )

    engine.start(lambda events: None)
    try:
        allocated = engine.loop._cache.cache_tensor.nbytes
    finally:
        engine.stop()

    per_token = shape.cache_bytes_per_token(model.dtype.itemsize)
    assert engine.loaded.bytes_per_token == per_token
    # The library allocates two more pages.
    assert allocated == (4 + 2) * PAGE_SIZE * per_token
