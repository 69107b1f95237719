"""What the engine is compared with: a raw loop, one-by-one generation, the library's own path."""

from __future__ import annotations

import itertools
import time
from typing import Any

import torch
import torch.nn.functional as F
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tests.bench.engine.prompts import NEW_TOKENS
from worker.engine.hf.model import cpu_attention as cpu_flash


class Slots:
    """The attention of the raw loop: one contiguous cache, with a row for each sequence."""

    name = "bench_slots"

    def __init__(self, model: Any, lengths: list[int]) -> None:
        config = model.config
        size = config.hidden_size // config.num_attention_heads
        shape = (
            config.num_hidden_layers,
            2,
            len(lengths),
            max(lengths) + NEW_TOKENS + 1,
            config.num_key_value_heads,
            size,
        )
        self.cache = torch.randn(shape) * 0.1
        self.lengths = torch.tensor(lengths)
        self.rows = torch.arange(len(lengths))
        ALL_ATTENTION_FUNCTIONS.register(self.name, self.attend)

    def begin_step(self) -> None:
        self.width = int(self.lengths.max()) + 1
        outside = torch.arange(self.width)[None] > self.lengths[:, None]
        self.mask = torch.zeros(outside.shape).masked_fill_(outside, float("-inf"))[:, None, None]

    def attend(
        self,
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, None]:
        keys, values = self.cache[module.layer_idx]
        keys[self.rows, self.lengths] = key[:, :, 0]
        values[self.rows, self.lengths] = value[:, :, 0]
        rows, heads, _, size = query.shape
        groups = key.shape[1]
        out = F.scaled_dot_product_attention(
            query.view(rows, groups, heads // groups, size),
            keys[:, : self.width].transpose(1, 2),
            values[:, : self.width].transpose(1, 2),
            attn_mask=self.mask,
        )
        return out.reshape(rows, 1, heads, size), None


@torch.no_grad()
def raw_loop_seconds(model: Any, lengths: list[int]) -> list[float]:
    """Return the duration of each step of the raw loop over a fixed batch."""
    slots = Slots(model, lengths)
    model.set_attn_implementation(Slots.name)
    ids = torch.ones(len(lengths), 1, dtype=torch.long)
    seconds = []
    try:
        for _ in range(NEW_TOKENS):
            begin = time.perf_counter()
            slots.begin_step()
            logits = model(
                input_ids=ids, position_ids=slots.lengths[:, None], use_cache=False
            ).logits
            ids = logits[:, -1].argmax(-1, keepdim=True)
            ids.tolist()
            slots.lengths += 1
            seconds.append(time.perf_counter() - begin)
    finally:
        model.set_attn_implementation(cpu_flash.NAME)
    return seconds


@torch.no_grad()
def one_by_one_seconds(model: Any, prompt: list[int]) -> list[float]:
    """Return the duration of each step of the library's `generate` with one prompt."""
    model.set_attn_implementation("sdpa")
    marks: list[float] = []

    def note(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        marks.append(time.perf_counter())
        return scores

    ids = torch.tensor([prompt])
    try:
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NEW_TOKENS,
            min_new_tokens=NEW_TOKENS,
            do_sample=False,
            logits_processor=[note],
        )
    finally:
        model.set_attn_implementation(cpu_flash.NAME)
    return [b - a for a, b in itertools.pairwise(marks)]


def load_plain(path: str) -> Any:
    """Load the model as the library does: SDPA, and weights in torch's layout."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="sdpa"
    )
