"""Small random models, their completions one by one, and prompts for them."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Sequence
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from worker.engine.hf.model import cpu_attention as cpu_flash

VOCAB_SIZE = 160
CONTEXT_LENGTH = 512
#: Attention implementations that every exactness test runs with.
ATTENTIONS = [cpu_flash.NAME, "sdpa"]
#: End tokens: a few, so that some completions end early and most do not.
EOS_IDS = (3, 17, 40, 77, 101, 133)
#: A token that no model here ever generates.
POISON = VOCAB_SIZE - 1


def build_model(seed: int = 0) -> Qwen2ForCausalLM:
    """Return a random model whose scores are far apart, so that rounding does not decide."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=VOCAB_SIZE,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT_LENGTH,
        initializer_range=0.4,
        tie_word_embeddings=False,
        eos_token_id=list(EOS_IDS),
        bos_token_id=None,
        pad_token_id=None,
    )
    model = Qwen2ForCausalLM(config).eval()
    model.generation_config.eos_token_id = list(EOS_IDS)
    bias = torch.zeros(VOCAB_SIZE)
    bias[POISON] = -1000.0
    model.lm_head.bias = torch.nn.Parameter(bias)
    return model


@functools.cache
def served_copy(model: Any) -> Any:
    """Return the copy of `model` that all engines of a run share.

    An engine changes the attention of its model; `complete` needs the unchanged one.
    """
    return copy.deepcopy(model)


def complete(model: Any, prompt: Sequence[int], max_tokens: int, **options: Any) -> list[int]:
    """Return the tokens of the library's own `generate` for one prompt, without the end token.

    Each completion is generated once in a run, so `model` must not change.
    """
    return list(_complete(model, tuple(prompt), max_tokens, **options))


@functools.cache
def _complete(
    model: Any, prompt: tuple[int, ...], max_tokens: int, **options: Any
) -> tuple[int, ...]:
    ids = torch.tensor([prompt])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_tokens,
        do_sample=False,
        pad_token_id=0,
        **options,
    )
    tokens = tuple(out[0, len(prompt) :].tolist())
    return tokens[:-1] if tokens and tokens[-1] in EOS_IDS else tokens


def make_prompts(count: int, longest: int, seed: int = 1) -> list[list[int]]:
    """Return prompts of mixed lengths, a third of which share a beginning."""
    draw = random.Random(seed)
    shared = [draw.randrange(VOCAB_SIZE) for _ in range(longest)]
    made = []
    for number in range(count):
        length = draw.randint(1, longest)
        begin = shared[: length * 3 // 4] if number % 3 == 0 else []
        made.append(begin + [draw.randrange(VOCAB_SIZE) for _ in range(length - len(begin))])
    return made
