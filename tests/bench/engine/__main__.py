"""Compares the engine's speed of decoding with the best that the same machine can do in one run.

    python -m tests.bench.engine MODEL_DIR

Times on a shared machine mean little; ratios within one run mean much more. For each number of
sequences the engine and the raw loop are measured in alternation, and the median of the rounds
counts. The raw loop runs a fixed batch with the same weights and one contiguous cache.
"""

from __future__ import annotations

import argparse
import logging
import random
import statistics

import torch

from core.config.settings import Attention
from tests.bench.engine.measures import engine_seconds, first_token_steps, outside_share
from tests.bench.engine.prompts import PROMPT_TOKENS, random_prompt
from tests.bench.engine.references import load_plain, one_by_one_seconds, raw_loop_seconds
from tests.bench.engine.steps import Steps
from worker.engine.hf.engine import HFEngine
from worker.engine.hf.loop import LoopOptions
from worker.engine.hf.model.loading import LoadedModel, adopt_model, load_model

AT_ONCE = (1, 4, 8, 16, 32)
ROUNDS = 3
THREADS = 2


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
        1,
        [
            one_by_one_seconds(loaded.model, random_prompt(draw, *PROMPT_TOKENS))
            for _ in range(ROUNDS)
        ],
    )
    print(f"one by one, `generate` with our weights: {one:.1f} tokens/s\n")
    print("| at once | engine tokens/s | of the raw loop | of the library's SDPA | of one by one |")
    print("| --- | --- | --- | --- | --- |")
    for at_once in AT_ONCE:
        prompts = [random_prompt(draw, *PROMPT_TOKENS) for _ in range(at_once)]
        ours: list[list[float]] = []
        raw: list[list[float]] = []
        for _ in range(ROUNDS):
            ours.append(engine_seconds(engine, steps, prompts))
            raw.append(raw_loop_seconds(loaded.model, [len(p) + 8 for p in prompts]))
        theirs = rate(at_once, [engine_seconds(library, plain_steps, prompts)])
        mine = rate(at_once, ours)
        print(
            f"| {at_once} | {mine:.0f} | {mine / rate(at_once, raw):.2f} |"
            f" {mine / theirs:.1f} | {mine / one:.1f} |",
            flush=True,
        )
    firsts = first_token_steps(engine, steps, draw)
    print(f"\nfirst token beside 16 decoding: {statistics.median(firsts):.2f} steps at the median")
    print(f"(of {[round(first, 2) for first in sorted(firsts)]})")
    for at_once in (16, 32):
        prompts = [random_prompt(draw, *PROMPT_TOKENS) for _ in range(at_once)]
        bare, with_argmax = outside_share(engine, steps, prompts)
        print(
            f"outside of the forward pass, {at_once} at once: {bare:.2%} of a step,"
            f" {with_argmax:.2%} with taking the greatest score"
        )
    engine.stop()
    library.stop()


def rate(at_once: int, rounds: list[list[float]]) -> float:
    """Return decoded tokens per second: the median of the rounds' medians."""
    medians = [statistics.median(seconds) for seconds in rounds if seconds]
    return at_once / statistics.median(medians)


def started(loaded: LoadedModel, steps: Steps) -> HFEngine:
    engine = HFEngine(loaded=loaded, options=LoopOptions(max_sequences=32))
    engine.start(steps)
    return engine


if __name__ == "__main__":
    main()
