"""How fast the engine decodes, as ratios to what the same machine can do within the same run.

    python -m tests.bench.engine MODEL_DIR

Times of a shared machine say little, ratios within one run much more: each number of sequences is
measured in turns, the engine and its limit right after another, and the median of the turns counts.
The limit is a loop over a batch that never changes, its cache in one piece, with the same weights.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import logging
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from core.config.settings import Attention
from worker.engine.hf.engine import HFEngine
from worker.engine.hf.loop import LoopOptions
from worker.engine.hf.model import cpu_attention as cpu_flash
from worker.engine.hf.model.loading import LoadedModel, adopt_model, load_model
from worker.engine.protocol import EngineRequest, Sampling, StepEvent

AT_ONCE = (1, 4, 8, 16, 32)
NEW_TOKENS = 64
PROMPT_TOKENS = (50, 200)
SHORT_PROMPT_TOKENS = 32
FIRST_TOKENS = 15
TURNS = 3
THREADS = 2


@dataclass
class Steps:
    """When each step's events came, and how many."""

    marks: list[tuple[float, int]] = field(default_factory=list)
    first_at: dict[str, float] = field(default_factory=dict)
    changed: threading.Event = field(default_factory=threading.Event)

    def __call__(self, events: Sequence[StepEvent]) -> None:
        now = time.perf_counter()
        self.marks.append((now, len(events)))
        for event in events:
            self.first_at.setdefault(event.handle.request.request_id, now)
        self.changed.set()

    def seconds(self, at_once: int) -> list[float]:
        """Return how long each step took in which all sequences decoded."""
        pairs = itertools.pairwise(self.marks)
        return [b[0] - a[0] for a, b in pairs if a[1] == b[1] == at_once]


class Slots:
    """The attention of the limit: one cache in one piece, a row a sequence."""

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
def limit_seconds(model: Any, lengths: list[int]) -> list[float]:
    """Return the steps of the raw loop over a fixed batch."""
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
    """Return the steps of the library's `generate` with one prompt."""
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


def engine_seconds(engine: HFEngine, steps: Steps, prompts: list[list[int]]) -> list[float]:
    """Return the engine's steps in which all prompts decode."""
    steps.marks.clear()
    handles = [
        engine.submit(EngineRequest(f"r{i}", p, NEW_TOKENS + i // 2, Sampling(ignore_eos=True)))
        for i, p in enumerate(prompts)
    ]
    wait(steps, lambda: all(handle.is_finished for handle in handles))
    return steps.seconds(len(prompts))


def first_token_steps(engine: HFEngine, steps: Steps, draw: random.Random) -> list[float]:
    """Return the times to the first token of a short request beside 16 that decode, in steps."""
    sampling = Sampling(ignore_eos=True)
    long = [
        engine.submit(EngineRequest(f"long{i}", ids(draw, *PROMPT_TOKENS), 1200, sampling))
        for i in range(16)
    ]
    wait(steps, lambda: len(steps.seconds(16)) >= 10)
    times = []
    for number in range(FIRST_TOKENS):
        time.sleep(draw.random() * 0.2)  # comes at any moment of a step
        name = f"short{number}"
        begin = time.perf_counter()
        prompt = ids(draw, SHORT_PROMPT_TOKENS, SHORT_PROMPT_TOKENS)
        engine.submit(EngineRequest(name, prompt, 1, sampling))
        wait(steps, lambda name=name: name in steps.first_at)  # type: ignore[misc]  # bound now
        times.append(steps.first_at[name] - begin)
        seen = len(steps.seconds(16))
        wait(steps, lambda seen=seen: len(steps.seconds(16)) >= seen + 3)  # type: ignore[misc]
    for handle in long:
        handle.cancel()
    wait(steps, lambda: engine.stats().running == 0)
    step = statistics.median(steps.seconds(16))
    return [seconds / step for seconds in times]


def outside_share(engine: HFEngine, steps: Steps, prompts: list[list[int]]) -> tuple[float, float]:
    """Return the shares of a step outside of the forward pass, without and with the argmax."""
    runner = engine.loop._manager.batch_processor.model_runner
    runner._model_supports_logits_to_keep = True
    forward: list[tuple[float, float]] = []
    sample: list[tuple[float, float]] = []
    undo = [timed(engine.loaded.model, "forward", forward), timed(runner, "_sample", sample)]
    engine_seconds(engine, steps, prompts)
    for take_off in undo:
        take_off()
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


def timed(owner: Any, name: str, into: list[tuple[float, float]]) -> Callable[[], None]:
    """Note when each call of a method begins and ends; the result takes the watch off again."""
    method = getattr(owner, name)

    @functools.wraps(method)
    def watched(*args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        result = method(*args, **kwargs)
        into.append((begin, time.perf_counter()))
        return result

    setattr(owner, name, watched)
    return lambda: delattr(owner, name)


def wait(steps: Steps, condition: Callable[[], bool], seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        steps.changed.wait(0.05)
        steps.changed.clear()


def ids(draw: random.Random, least: int, most: int) -> list[int]:
    return [draw.randrange(10, 5000) for _ in range(draw.randint(least, most))]


def rate(at_once: int, turns: list[list[float]]) -> float:
    """Return decoded tokens per second: the median of the turns' medians."""
    return at_once / statistics.median(statistics.median(turn) for turn in turns if turn)


def started(loaded: LoadedModel, steps: Steps) -> HFEngine:
    engine = HFEngine(loaded=loaded, options=LoopOptions(max_sequences=32))
    engine.start(steps)
    return engine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model_dir")
    path = parser.parse_args().model_dir
    logging.disable(logging.WARNING)
    torch.set_num_threads(THREADS)
    draw = random.Random(1)
    loaded = load_model(path, attention=Attention.CPU_FLASH)
    plain = adopt_model(load_plain(path))
    steps, plain_steps = Steps(), Steps()
    engine, library = started(loaded, steps), started(plain, plain_steps)
    one = rate(
        1, [one_by_one_seconds(loaded.model, ids(draw, *PROMPT_TOKENS)) for _ in range(TURNS)]
    )
    print(f"one by one, `generate` with our weights: {one:.1f} tokens/s\n")
    print("| at once | engine tokens/s | of the limit | of the library's SDPA | of one by one |")
    print("| --- | --- | --- | --- | --- |")
    for at_once in AT_ONCE:
        prompts = [ids(draw, *PROMPT_TOKENS) for _ in range(at_once)]
        ours: list[list[float]] = []
        limits: list[list[float]] = []
        for _ in range(TURNS):
            ours.append(engine_seconds(engine, steps, prompts))
            limits.append(limit_seconds(loaded.model, [len(p) + 8 for p in prompts]))
        theirs = rate(at_once, [engine_seconds(library, plain_steps, prompts)])
        mine = rate(at_once, ours)
        print(
            f"| {at_once} | {mine:.0f} | {mine / rate(at_once, limits):.2f} |"
            f" {mine / theirs:.1f} | {mine / one:.1f} |",
            flush=True,
        )
    firsts = first_token_steps(engine, steps, draw)
    print(f"\nfirst token beside 16 decoding: {statistics.median(firsts):.2f} steps at the median")
    print(f"(of {[round(first, 2) for first in sorted(firsts)]})")
    for at_once in (16, 32):
        prompts = [ids(draw, *PROMPT_TOKENS) for _ in range(at_once)]
        bare, with_argmax = outside_share(engine, steps, prompts)
        print(
            f"outside of the forward pass, {at_once} at once: {bare:.2%} of a step,"
            f" {with_argmax:.2%} with taking the greatest score"
        )
    engine.stop()
    library.stop()


def load_plain(path: str) -> Any:
    """Load the model as the library would: SDPA, and weights in torch's own layout."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="sdpa"
    )


if __name__ == "__main__":
    main()
