"""Small random models, their completions one by one, prompts, and a receiver of events.

`complete` gives the expected completion of a prompt; `running` runs an engine.
"""

from __future__ import annotations

import copy
import functools
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from worker.engine.hf.engine import HFEngine
from worker.engine.hf.loop import LoopOptions
from worker.engine.hf.model import cpu_attention as cpu_flash
from worker.engine.hf.model.loading import adopt_model
from worker.engine.protocol import FinishReason, Handle, ObserveStep, StepEvent, TokenLogprob

VOCAB_SIZE = 160
CONTEXT_LENGTH = 512
#: Attention implementations that every exactness test runs with.
ATTENTIONS = [cpu_flash.NAME, "sdpa"]
#: End tokens: a few, so that some completions end early and most do not.
EOS_IDS = (3, 17, 40, 77, 101, 133)
#: A token that no model here ever generates.
POISON = VOCAB_SIZE - 1
Key = tuple[str, int]


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


def complete(model: Any, prompt: Sequence[int], max_tokens: int, **kwargs: Any) -> list[int]:
    """Return the tokens of the library's own `generate` for one prompt, without the end token."""
    ids = torch.tensor([list(prompt)])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_tokens,
        do_sample=False,
        pad_token_id=0,
        **kwargs,
    )
    tokens: list[int] = out[0, len(prompt) :].tolist()
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


class Receiver:
    """Collects the events of an engine; an event after a sequence's end fails the test."""

    def __init__(self) -> None:
        self.tokens: dict[Key, list[int]] = defaultdict(list)
        self.logprobs: dict[Key, list[TokenLogprob]] = defaultdict(list)
        self.ends: dict[Key, FinishReason] = {}
        self.errors: dict[Key, str | None] = {}
        self.faults: list[str] = []
        self.calls = 0
        self.on_event: Callable[[StepEvent], None] = lambda event: None
        self._changed = threading.Condition()

    def __call__(self, events: Sequence[StepEvent]) -> None:
        with self._changed:
            self.calls += 1
            self._changed.notify_all()
            for event in events:
                self._note(event)

    def wait(self, *handles: Handle, seconds: float = 30.0) -> None:
        """Wait until the end of every sequence of the handles is delivered."""
        keys = [(h.request.request_id, i) for h in handles for i in range(h.request.n)]
        with self._changed:
            assert self._changed.wait_for(lambda: all(key in self.ends for key in keys), seconds), {
                key: self.tokens[key] for key in keys if key not in self.ends
            }

    def wait_for_tokens(self, key: Key, count: int, seconds: float = 30.0) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.tokens[key]) >= count, seconds)

    def forget(self) -> None:
        """Drop the events collected so far."""
        with self._changed:
            for collected in (self.tokens, self.logprobs, self.ends, self.errors):
                collected.clear()

    def _note(self, event: StepEvent) -> None:
        key = (event.handle.request.request_id, event.index)
        if key in self.ends:
            self.faults.append(f"{key} had an event after its end")
        self.tokens[key] += event.token_ids
        self.logprobs[key] += event.logprobs
        if event.finish_reason is not None:
            self.ends[key] = event.finish_reason
            self.errors[key] = event.error
        self.on_event(event)


@contextmanager
def running(
    model: Any,
    *,
    attention: str = cpu_flash.NAME,
    stall_seconds: float = 60.0,
    observe: ObserveStep = lambda step: None,
    **options: Any,
) -> Iterator[tuple[HFEngine, Receiver]]:
    """Run an engine on a copy of `model` during a `with` block."""
    cpu_flash.install()
    served = copy.deepcopy(model)
    served.set_attn_implementation(attention)
    engine = HFEngine(
        loaded=adopt_model(served),
        options=LoopOptions(**{"page_size": 16, "cache_blocks": 256, **options}),
        stall_seconds=stall_seconds,
    )
    engine.observe_steps(observe)
    receiver = Receiver()
    try:
        engine.start(receiver)
        yield engine, receiver
    finally:
        engine.stop()
    assert not receiver.faults


def intercept(engine: HFEngine, check: Callable[[torch.Tensor], None]) -> None:
    """Call `check` with the input ids of every forward pass; an exception fails the step.

    Args:
        check: takes ids of shape (1, tokens).
    """
    model = engine.loaded.model
    forward = model.forward

    @functools.wraps(forward)
    def checked(*args: Any, **kwargs: Any) -> Any:
        check(kwargs["input_ids"])
        return forward(*args, **kwargs)

    model.forward = checked
