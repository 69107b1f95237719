"""Checks that a machine runs its model: memory, correctness and speed.

`bountycoder model check` uses it. All prompts go through the engine, as those of jobs do. The
expected completions are those of the library's `generate`, one prompt at a time, on the same
weights. `generate` cannot run a model that is split over several GPUs; for such a model they are
the engine's own completions of one prompt at a time.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from core.config.settings import Settings
from worker.engine.hf.engine import HFEngine
from worker.engine.hf.loop import LoopOptions
from worker.engine.hf.model import cpu_attention
from worker.engine.hf.model.loading import LoadedModel
from worker.engine.protocol import EngineRequest, Sampling, StepEvent

WriteLine = Callable[[str], None]

#: Least speed of each stream that the product promises.
PROMISED_TOKENS_PER_SECOND = 30.0
PROMPT_TOKENS = (1, 300)
SELF_TEST_PROMPTS = 12
SELF_TEST_TOKENS = 16
TIMED_TOKENS = 48
WAIT_SECONDS = 600.0
#: Share of equal tokens that passes below float32, where the order of a sum changes its result.
ENOUGH_AGREEMENT = 0.9
GIB = 2**30


@dataclass(slots=True)
class _Collector:
    """Collects the events that the engine delivers."""

    ids: dict[str, list[int]] = field(default_factory=dict)
    first_at: dict[str, float] = field(default_factory=dict)
    ended_at: dict[str, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __call__(self, events: Sequence[StepEvent]) -> None:
        now = time.perf_counter()
        with self.changed:
            for event in events:
                name = event.handle.request.request_id
                self.ids.setdefault(name, []).extend(event.token_ids)
                self.first_at.setdefault(name, now)
                if event.finish_reason is not None:
                    self.ended_at[name] = now
                if event.error is not None:
                    self.errors.append(event.error)
            self.changed.notify_all()

    def wait(self, names: Sequence[str]) -> None:
        """Wait until all these requests have ended.

        Raises:
            RuntimeError: a request failed, or `WAIT_SECONDS` are over.
        """
        with self.changed:
            done = self.changed.wait_for(
                lambda: all(name in self.ended_at for name in names), WAIT_SECONDS
            )
        if not done or self.errors:
            raise RuntimeError(
                self.errors[0] if self.errors else "the engine did not finish its requests in time"
            )


def check_model(settings: Settings, write_line: WriteLine) -> bool:
    """Load the configured model, check it, and return whether it is right.

    Args:
        write_line: takes each line of the report.
    """
    began = time.monotonic()
    engine, collector = HFEngine.from_settings(settings), _Collector()
    engine.start(collector)
    write_line(f"loaded {settings.model_path} in {time.monotonic() - began:.1f} s")
    try:
        _describe(engine, write_line)
        is_split = settings.engine_tensor_parallel > 1
        expected = (
            _complete_each_alone(engine, collector) if is_split else _generate_all(engine.loaded)
        )
        is_right = _self_test(engine, collector, expected, write_line)
        _time(engine, collector, settings.engine_max_sequences, write_line)
    finally:
        engine.stop()
    if is_split:
        write_line("the model is split: to try a switch, turn it on and run the check again")
    else:
        _try_switches(engine.loaded, engine.options, expected, write_line)
    write_line("the model is right on this machine" if is_right else "THE MODEL IS NOT RIGHT HERE")
    return is_right


def _describe(engine: HFEngine, write_line: WriteLine) -> None:
    loaded, options = engine.loaded, engine.options
    model, device = loaded.model, loaded.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    cache_tokens = engine.cache_tokens
    write_line(f"device       {name}, {torch.get_num_threads()} threads")
    write_line(f"weights      {model.dtype}, attention {model.config._attn_implementation}")
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        write_line(f"memory       {(total - free) / GIB:.1f} of {total / GIB:.1f} GiB used")
        write_line(f"             {weights / GIB:.1f} GiB are weights")
    write_line(
        f"cache        {cache_tokens} tokens, {cache_tokens * loaded.bytes_per_token / GIB:.2f} GiB"
    )
    write_line(f"context      {engine.context_length} tokens a sequence")
    write_line(
        f"one step     {options.max_sequences} sequences, {options.max_batch_tokens} tokens at most"
    )


def _self_test(
    engine: HFEngine, collector: _Collector, expected: list[list[int]], write_line: WriteLine
) -> bool:
    """Return whether the engine's greedy completions, made together, are as expected."""
    loaded = engine.loaded
    prompts = _prompts(loaded)
    actual = _complete(engine, collector, "test", prompts, SELF_TEST_TOKENS)
    same = sum(a == b for a, b in zip(actual, expected, strict=True))
    agreed = sum(
        a == b
        for one, two in zip(actual, expected, strict=True)
        for a, b in zip(one, two, strict=True)
    )
    agreement = agreed / (len(prompts) * SELF_TEST_TOKENS)
    write_line(f"self-test    {same} of {len(prompts)} completions equal one-by-one generation,")
    write_line(f"             {agreement:.1%} of the tokens")
    if loaded.model.dtype == torch.float32:
        return same == len(prompts)
    return agreement >= ENOUGH_AGREEMENT


def _time(engine: HFEngine, collector: _Collector, most: int, write_line: WriteLine) -> None:
    write_line("speed        at once   tokens/s   per stream   first token")
    for at_once in sorted({1, min(8, most), most}):
        prompts = [_random_prompt(100, engine.loaded.vocab_size) for _ in range(at_once)]
        began = time.perf_counter()
        _complete(engine, collector, f"speed{at_once}", prompts, TIMED_TOKENS)
        names = [f"speed{at_once}.{i}" for i in range(at_once)]
        decode = max(collector.ended_at[n] for n in names) - min(
            collector.first_at[n] for n in names
        )
        first = statistics.median(collector.first_at[name] - began for name in names)
        per_stream = (TIMED_TOKENS - 1) / decode
        verdict = "" if per_stream >= PROMISED_TOKENS_PER_SECOND else "  under the promised 30"
        write_line(
            f"             {at_once:7}{at_once * per_stream:11.1f}{per_stream:13.1f}"
            f"{first * 1000:11.0f} ms{verdict}"
        )


def _try_switches(
    loaded: LoadedModel, options: LoopOptions, expected: list[list[int]], write_line: WriteLine
) -> None:
    """Run the self-test with each switch turned on, and report which switches work."""
    is_gpu = loaded.device.type == "cuda"
    for setting, change, needs_gpu in (
        ("ENGINE_PREFIX_SHARING", {"prefix_sharing": True}, False),
        ("ENGINE_CUDA_GRAPHS", {"cuda_graphs": True}, True),
        ("ENGINE_ASYNC_BATCHING", {"async_batching": True}, True),
    ):
        if needs_gpu and not is_gpu:
            write_line(f"{setting:22} needs a GPU")
            continue
        write_line(f"{setting:22} {_verdict(loaded, replace(options, **change), expected)}")


def _verdict(loaded: LoadedModel, options: LoopOptions, expected: list[list[int]]) -> str:
    engine, collector = HFEngine(loaded=loaded, options=options), _Collector()
    lines: list[str] = []
    try:
        engine.start(collector)
        is_right = _self_test(engine, collector, expected, lines.append)
    except RuntimeError as error:
        return f"fails here: {error}"
    finally:
        engine.stop()
    return "can be on" if is_right else "gives wrong completions here: leave it off"


def _complete(
    engine: HFEngine, collector: _Collector, name: str, prompts: list[list[int]], tokens: int
) -> list[list[int]]:
    sampling = Sampling(ignore_eos=True)
    names = [f"{name}.{i}" for i in range(len(prompts))]
    for request_id, prompt in zip(names, prompts, strict=True):
        engine.submit(EngineRequest(request_id, prompt, tokens, sampling))
    collector.wait(names)
    return [collector.ids[request_id] for request_id in names]


def _complete_each_alone(engine: HFEngine, collector: _Collector) -> list[list[int]]:
    """Return the engine's completions of the self-test's prompts, one at a time."""
    return [
        _complete(engine, collector, f"alone{i}", [prompt], SELF_TEST_TOKENS)[0]
        for i, prompt in enumerate(_prompts(engine.loaded))
    ]


@torch.no_grad()
def _generate_all(loaded: LoadedModel) -> list[list[int]]:
    """Return the library's completions of the self-test's prompts, one at a time."""
    model: Any = loaded.model
    attention = model.config._attn_implementation
    if attention == cpu_attention.NAME:  # this attention needs the paged cache
        model.set_attn_implementation("sdpa")
    try:
        return [_generate(model, loaded.device, prompt) for prompt in _prompts(loaded)]
    finally:
        model.set_attn_implementation(attention)


def _generate(model: Any, device: torch.device, prompt: list[int]) -> list[int]:
    ids = torch.tensor([prompt], device=device)
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=SELF_TEST_TOKENS,
        min_new_tokens=SELF_TEST_TOKENS,
        do_sample=False,
        repetition_penalty=1.0,
    )
    return list(out[0, len(prompt) :].tolist())


def _prompts(loaded: LoadedModel) -> list[list[int]]:
    draw = random.Random(1)  # noqa: S311 - no secret
    lengths = [draw.randint(*PROMPT_TOKENS) for _ in range(SELF_TEST_PROMPTS)]
    return [_random_prompt(length, loaded.vocab_size) for length in lengths]


def _random_prompt(length: int, vocab_size: int) -> list[int]:
    draw = random.Random(length)  # noqa: S311 - no secret
    return [draw.randrange(min(20_000, vocab_size)) for _ in range(length)]
