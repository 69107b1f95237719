"""The small real model, loaded as a worker loads it, generates exact completions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from core.config.settings import Attention
from tests.support.engine.running_engine import Receiver
from tests.support.engine.tiny_model import make_prompts
from worker.engine.hf.engine import HFEngine
from worker.engine.hf.loop import LoopOptions
from worker.engine.hf.model.loading import load_model
from worker.engine.protocol import EngineRequest, FinishReason, Sampling

TOKENS = 24
PROMPTS = make_prompts(8, 200, seed=9)


def complete_alone(model: Any, prompt: list[int]) -> list[int]:
    """Return the tokens of the library's own `generate` for one prompt."""
    ids = torch.tensor([prompt])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=TOKENS,
        min_new_tokens=TOKENS,
        do_sample=False,
    )
    tokens: list[int] = out[0, len(prompt) :].tolist()
    return tokens


@pytest.fixture(scope="module")
def expected(model_dir: Path) -> list[list[int]]:
    """Return the model's completion of each prompt alone."""
    model = load_model(str(model_dir), attention=Attention.SDPA).model
    return [complete_alone(model, prompt) for prompt in PROMPTS]


@pytest.mark.parametrize("attention", [Attention.CPU_FLASH, Attention.SDPA])
def test_completions_of_many_prompts_equal_those_of_each_prompt_alone(
    model_dir: Path, expected: list[list[int]], attention: Attention
) -> None:
    engine = HFEngine(
        model_path=str(model_dir),
        attention=attention,
        options=LoopOptions(max_sequences=8),
        threads=2,
    )
    receiver = Receiver()
    sampling = Sampling(min_tokens=TOKENS)
    try:
        engine.start(receiver)
        handles = [
            engine.submit(EngineRequest(f"r{i}", p, TOKENS, sampling))
            for i, p in enumerate(PROMPTS)
        ]
        receiver.wait(*handles, seconds=120)
    finally:
        engine.stop()

    assert not receiver.faults
    assert set(receiver.ends.values()) == {FinishReason.LENGTH}
    assert [receiver.tokens[f"r{i}", 0] for i in range(len(PROMPTS))] == expected
