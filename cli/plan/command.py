"""`bountycoder plan`: estimate how many GPUs a number of users needs."""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from cli.argument_types import whole_number
from cli.plan.cache import PAGE_SIZE, CacheOptions
from cli.plan.gpus import GPUS, Gpu
from cli.plan.model_shape import QWEN_CODER_32B, ModelShape, read_shape
from cli.plan.pace import Efficiency, Pace, Request
from cli.plan.report import Priced, as_json, lines, priced, table
from cli.plan.sizing import Load, size
from cli.plan.weights import Weights
from core.config.settings import Settings
from core.errors import LauncherError

#: The product's promise to each stream.
PROMISED_TOKENS_PER_SECOND = 30.0
#: The plan connects to no server. These values only make the settings valid.
_NO_SERVERS = {"DATABASE_URL": "postgresql://unused/unused", "REDIS_URL": "redis://unused"}


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    load, efficiency = Load(), Efficiency()
    add = parser.add_argument
    add("--gpu", choices=GPUS, default="h100", help="default: h100 (SXM)")
    add("--weights", choices=[*map(str, Weights)], default="fp8", help="default: fp8")
    add("--all", action="store_true", help="print a table of all GPUs and weights")
    add("--json", action="store_true", help="print JSON, for scripts")
    add("--model-config", type=Path, metavar="PATH", help="a model's directory, or its config.json")
    add("--users", type=whole_number(), default=load.users)
    add("--active-share", type=_share, default=load.active_share, help="of the users, each day")
    add(
        "--requests-per-day",
        type=_positive,
        default=load.requests_per_day,
        help="of an active user",
    )
    add(
        "--peak-factor", type=_at_least_one, default=load.peak_factor, help="busiest over mean hour"
    )
    add("--headroom", type=_not_negative, default=load.headroom, help="for the busiest minutes")
    add("--min-gpus", type=whole_number(), default=load.min_gpus)
    add("--prompt-tokens", type=whole_number(), default=800)
    add("--completion-tokens", type=whole_number(), default=300)
    add("--pace", type=_positive, default=PROMISED_TOKENS_PER_SECOND, help="of each stream")
    add("--price", type=_positive, metavar="DOLLARS", help="of a GPU for an hour")
    add("--bandwidth-efficiency", type=_share, default=efficiency.bandwidth)
    add("--compute-efficiency", type=_share, default=efficiency.compute)
    add("--step-ms", type=_not_negative, default=efficiency.step_seconds * 1000)
    parser.set_defaults(run=_plan)


def _plan(args: argparse.Namespace) -> int:
    """Return exit code 1 if even a single stream is too slow."""
    options = _options()
    shape = read_shape(args.model_config) if args.model_config else QWEN_CODER_32B
    load = Load(
        users=args.users,
        active_share=args.active_share,
        requests_per_day=args.requests_per_day,
        peak_factor=args.peak_factor,
        headroom=args.headroom,
        min_gpus=args.min_gpus,
    )

    def plan(gpu: Gpu, weights: Weights) -> Priced:
        return _plan_one(args, shape, gpu, weights, options, load)

    if args.all:
        rows = [(gpu.name, str(weights), result) for gpu, weights, result in _plan_all(plan)]
        if args.json:
            print(json.dumps([as_json(found, load) for *_, found in rows if found]))
        else:
            print(*table(rows, load), sep="\n")
        return 0
    found = plan(GPUS[args.gpu], Weights(args.weights))
    print(json.dumps(as_json(found, load)) if args.json else "\n".join(lines(found, load)))
    return 0 if found[0].streams else 1


def _plan_one(
    args: argparse.Namespace,
    shape: ModelShape,
    gpu: Gpu,
    weights: Weights,
    options: CacheOptions,
    load: Load,
) -> Priced:
    efficiency = Efficiency(
        bandwidth=args.bandwidth_efficiency,
        compute=args.compute_efficiency,
        step_seconds=args.step_ms / 1000,
    )
    request = Request(prompt=args.prompt_tokens, completion=args.completion_tokens)
    pace = Pace(shape=shape, weights=weights, gpu=gpu, efficiency=efficiency)
    sizing = size(pace, request, options=options, target=args.pace)
    return priced(sizing, load, args.price or gpu.dollars_per_hour)


def _plan_all(
    plan: Callable[[Gpu, Weights], Priced],
) -> Iterator[tuple[Gpu, Weights, Priced | None]]:
    """Yield the plan of each GPU and weights, or `None` if the GPU does not support the weights."""
    for gpu in GPUS.values():
        for weights in Weights:
            try:
                yield gpu, weights, plan(gpu, weights)
            except LauncherError:
                yield gpu, weights, None


def _options() -> CacheOptions:
    """Return the engine's settings from the environment; the plan chooses the sequences."""
    settings = Settings.from_environment({**_NO_SERVERS, **os.environ})
    return CacheOptions(
        max_sequences=settings.engine_max_sequences,
        max_batch_tokens=settings.engine_max_batch_tokens,
        page_size=settings.engine_page_size or PAGE_SIZE,
        async_batching=settings.engine_async_batching,
    )


def _number(fits: Callable[[float], bool], what: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and fits(number)):
            raise argparse.ArgumentTypeError(f"{text} is not {what}")
        return number

    return parse


_positive = _number(lambda number: number > 0, "a number above 0")
_not_negative = _number(lambda number: number >= 0, "a number of at least 0")
_at_least_one = _number(lambda number: number >= 1, "a number of at least 1")
_share = _number(lambda number: 0 < number <= 1, "a number above 0 and at most 1")
