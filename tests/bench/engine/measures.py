"""What the benchmark measures on a running engine."""

from __future__ import annotations

import functools
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from tests.bench.engine.prompts import (
    NEW_TOKENS,
    PROMPT_TOKENS,
    SHORT_PROMPT_TOKENS,
    random_prompt,
)
from tests.bench.engine.steps import Steps
from worker.engine.hf.engine import HFEngine
from worker.engine.protocol import EngineRequest, Sampling

FIRST_TOKENS = 15


def engine_seconds(engine: HFEngine, steps: Steps, prompts: list[list[int]]) -> list[float]:
    """Return the engine's steps in which all prompts decode."""
    steps.marks.clear()
    handles = [
        engine.submit(EngineRequest(f"r{i}", p, NEW_TOKENS + i // 2, Sampling(ignore_eos=True)))
        for i, p in enumerate(prompts)
    ]
    steps.wait(lambda: all(handle.is_finished for handle in handles))
    return steps.seconds(len(prompts))


def first_token_steps(engine: HFEngine, steps: Steps, draw: random.Random) -> list[float]:
    """Return the times to the first token of a short request beside 16 that decode, in steps."""
    sampling = Sampling(ignore_eos=True)
    long = [
        engine.submit(
            EngineRequest(f"long{i}", random_prompt(draw, *PROMPT_TOKENS), 1200, sampling)
        )
        for i in range(16)
    ]
    steps.wait(lambda: len(steps.seconds(16)) >= 10)
    times = []
    for number in range(FIRST_TOKENS):
        time.sleep(draw.random() * 0.2)  # the request arrives at a random moment of a step
        name = f"short{number}"
        begin = time.perf_counter()
        prompt = random_prompt(draw, SHORT_PROMPT_TOKENS, SHORT_PROMPT_TOKENS)
        engine.submit(EngineRequest(name, prompt, 1, sampling))
        steps.wait(lambda name=name: name in steps.first_at)  # type: ignore[misc]  # bound now
        times.append(steps.first_at[name] - begin)
        seen = len(steps.seconds(16))
        steps.wait(lambda seen=seen: len(steps.seconds(16)) >= seen + 3)  # type: ignore[misc]
    for handle in long:
        handle.cancel()
    steps.wait(lambda: engine.stats().running == 0)
    step = statistics.median(steps.seconds(16))
    return [seconds / step for seconds in times]


def outside_share(engine: HFEngine, steps: Steps, prompts: list[list[int]]) -> tuple[float, float]:
    """Return the shares of a step outside of the forward pass, without and with the argmax."""
    runner = engine.loop._manager.batch_processor.model_runner
    runner._model_supports_logits_to_keep = True
    forward: list[tuple[float, float]] = []
    sample: list[tuple[float, float]] = []
    undo = [_timed(engine.loaded.model, "forward", forward), _timed(runner, "_sample", sample)]
    engine_seconds(engine, steps, prompts)
    for restore in undo:
        restore()
    decoding = slice(-NEW_TOKENS // 2, -len(prompts) // 2 - 1)  # after prompts, before any end
    bare, whole = [], []
    for (begin, end), (next_begin, _), drawn in list(
        zip(forward, forward[1:], sample, strict=False)
    )[decoding]:
        inside = end - begin
        step = inside + next_begin - end
        whole.append(1 - inside / step)
        bare.append(1 - (inside + drawn[1] - drawn[0]) / step)
    return statistics.median(bare), statistics.median(whole)


def _timed(owner: Any, name: str, into: list[tuple[float, float]]) -> Callable[[], None]:
    """Note when each call of a method begins and ends; return what restores the method."""
    method = getattr(owner, name)

    @functools.wraps(method)
    def watched(*args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        result = method(*args, **kwargs)
        into.append((begin, time.perf_counter()))
        return result

    setattr(owner, name, watched)
    return lambda: delattr(owner, name)
