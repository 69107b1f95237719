"""An engine that runs a small random model, and a receiver of its events."""

from __future__ import annotations

import functools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from tests.support.engine.tiny_model import served_copy
from worker.engine.hf.engine import HFEngine
from worker.engine.hf.loop import LoopOptions
from worker.engine.hf.model import cpu_attention as cpu_flash
from worker.engine.hf.model.loading import adopt_model
from worker.engine.protocol import FinishReason, Handle, ObserveStep, StepEvent, TokenLogprob

#: Request id and index of a sequence.
SequenceKey = tuple[str, int]


class Receiver:
    """Collects the events of an engine; an event after a sequence's end fails the test."""

    def __init__(self) -> None:
        self.tokens: dict[SequenceKey, list[int]] = defaultdict(list)
        self.logprobs: dict[SequenceKey, list[TokenLogprob]] = defaultdict(list)
        self.ends: dict[SequenceKey, FinishReason] = {}
        self.errors: dict[SequenceKey, str | None] = {}
        self.faults: list[str] = []
        self.on_event: Callable[[StepEvent], None] = lambda event: None
        self._changed = threading.Condition()

    def __call__(self, events: Sequence[StepEvent]) -> None:
        with self._changed:
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

    def wait_for_tokens(self, key: SequenceKey, count: int, seconds: float = 30.0) -> None:
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
    """Run an engine on `served_copy(model)` during a `with` block.

    Args:
        options: of `LoopOptions`; by default 256 pages of 16 tokens.
    """
    cpu_flash.install()
    served = served_copy(model)
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
        vars(served).pop("forward", None)  # undo `intercept`
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


def slow_down(engine: HFEngine, seconds: float = 0.002) -> None:
    """Lengthen every step, so that a test can act while its sequences still run."""
    intercept(engine, lambda ids: time.sleep(seconds))
