"""The small real model, loaded as a worker loads it: right, and safe with its special tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from core.settings import Attention
from tests.worker.hf.test_exactness import prompts
from tests.worker.hf.tiny import Receiver
from worker.engine import EngineRequest, FinishReason, Sampling
from worker.hf.loop import LoopOptions
from worker.hf_engine import HFEngine

TOKENS = 24


def one_by_one(model: Any, prompt: list[int]) -> list[int]:
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


@pytest.mark.parametrize("attention", [Attention.CPU_FLASH, Attention.SDPA])
def test_the_small_model_answers_together_as_it_does_alone(
    model_dir: Path, attention: Attention
) -> None:
    engine = HFEngine(
        model_path=str(model_dir),
        attention=attention,
        options=LoopOptions(max_sequences=8),
        threads=2,
    )
    receiver = Receiver()
    made = prompts(8, 200, seed=9)
    sampling = Sampling(min_tokens=TOKENS)
    try:
        engine.start(receiver)
        handles = [
            engine.submit(EngineRequest(f"r{i}", p, TOKENS, sampling)) for i, p in enumerate(made)
        ]
        receiver.wait(*handles, seconds=120)
    finally:
        engine.stop()
    model = engine.loaded.model
    model.set_attn_implementation("sdpa")

    assert not receiver.faults
    assert set(receiver.ends.values()) == {FinishReason.LENGTH}
    for number, prompt in enumerate(made):
        assert receiver.tokens[f"r{number}", 0] == one_by_one(model, prompt)
