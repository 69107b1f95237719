"""Format a plan as text, as a table of many GPUs, or as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from cli.plan.gpus import GIB, PRICES_OF
from cli.plan.pace import Efficiency
from cli.plan.sizing import Cost, Load, Sizing, cost
from cli.plan.weights import BF16_BYTES

Priced = tuple[Sizing, Cost | None]
_HEAD = (
    f"{'GPU':13}{'weights':8}{'GiB':>5}{'cache':>9}{'alone':>7}{'streams':>8}{'per GPU':>8}"
    f"{'GPUs':>5}{'$/month':>9}{'scaled':>8}{'$/M':>6}"
)


def priced(sizing: Sizing, load: Load, dollars_per_hour: float | None) -> Priced:
    """Return the sizing with its cost, if a price is known."""
    can = sizing.streams and dollars_per_hour is not None
    return sizing, cost(sizing, load, dollars_per_hour or 0.0) if can else None


def lines(plan: Priced, load: Load) -> Iterator[str]:
    """Yield the lines of one plan."""
    sizing, costs = plan
    pace, request = sizing.pace, sizing.request
    shape, gpu = pace.shape, pace.gpu
    per_token = shape.cache_bytes_per_token(BF16_BYTES)
    yield f"model        {shape.name}, {shape.parameters:,} parameters"
    yield (
        f"weights      {pace.weights}: {sizing.weight_bytes / GIB:.1f} of"
        f" {gpu.memory_bytes / GIB:.0f} GiB of one {gpu.name}"
    )
    yield f"cache        {sizing.cache_tokens:,} tokens of {per_token / 1024:g} KiB"
    yield f"assumed      {_assumed(pace.efficiency)}: not measured"
    yield f"one stream   {sizing.alone:.1f} tokens a second, alone on a GPU"
    if not sizing.streams:
        yield f"             TOO SLOW: a stream needs {sizing.target:g} tokens a second"
        return
    yield (
        f"at once      {sizing.streams} streams of {request.prompt} + {request.completion} tokens"
        f" reach {sizing.target:g} tokens a second; {sizing.bound} is the limit"
    )
    yield (
        f"             {sizing.per_stream:.1f} tokens a second of each stream,"
        f" {sizing.per_gpu:,.0f} of a GPU"
    )
    yield (
        f"prompts      {sizing.options.max_batch_tokens} tokens of a step delay other streams"
        f" by {sizing.stall_seconds * 1000:.0f} ms"
    )
    yield from _load_lines(sizing, load)
    if costs is None:
        yield "cost         unknown price: set --price"
    else:
        yield from _cost_lines(costs)
    yield "settings     for each worker:"
    yield from (f"             {name}={value}" for name, value in settings(sizing).items())


def table(plans: Iterable[tuple[str, str, Priced | None]], load: Load) -> Iterator[str]:
    """Yield a table with one row for each GPU and weights."""
    yield _HEAD
    for gpu, weights, plan in plans:
        yield f"{gpu:13}{weights:8}" + (_row(*plan, load) if plan else "  unsupported")


def as_json(plan: Priced, load: Load) -> dict[str, Any]:
    """Return one plan as JSON; names contain the units."""
    sizing, costs = plan
    found: dict[str, Any] = {
        "model": sizing.pace.shape.name,
        "parameters": sizing.pace.shape.parameters,
        "gpu": sizing.pace.gpu.name,
        "weights": sizing.pace.weights.value,
        "weight_bytes": sizing.weight_bytes,
        "cache_bytes_per_token": sizing.pace.shape.cache_bytes_per_token(BF16_BYTES),
        "cache_tokens": sizing.cache_tokens,
        "tokens_per_second_alone": sizing.alone,
        "streams_per_gpu": sizing.streams,
        "bound": sizing.bound,
    }
    if not sizing.streams:
        return found
    peak = load.peak_requests_per_second
    return {
        **found,
        "tokens_per_second_per_stream": sizing.per_stream,
        "tokens_per_second_per_gpu": sizing.per_gpu,
        "requests_per_second": load.requests_per_second,
        "peak_requests_per_second": peak,
        "peak_streams": sizing.streams_at(peak),
        "peak_gpus": sizing.gpus_at(peak, load),
        "mean_gpus": sizing.gpus_at(load.requests_per_second, load),
        "dollars_per_month": costs and costs.month,
        "dollars_per_month_scaled": costs and costs.scaled_month,
        "dollars_per_million_tokens": costs and costs.million,
        "dollars_per_million_tokens_full": costs and costs.full_million,
        "settings": settings(sizing),
    }


def settings(sizing: Sizing) -> dict[str, str]:
    """Return the settings of a worker; `model check` tests whether the machine supports them."""
    return {
        "ENGINE_MAX_SEQUENCES": str(sizing.streams),
        "ENGINE_MAX_BATCH_TOKENS": str(sizing.options.max_batch_tokens),
        "ENGINE_CUDA_GRAPHS": "true",
        "ENGINE_ASYNC_BATCHING": str(sizing.options.async_batching).lower(),
    }


def _assumed(efficiency: Efficiency) -> str:
    return (
        f"{efficiency.bandwidth:.0%} of the bandwidth, {efficiency.compute:.0%} of the operations,"
        f" {efficiency.step_seconds * 1000:g} ms a step"
    )


def _load_lines(sizing: Sizing, load: Load) -> Iterator[str]:
    peak, mean = load.peak_requests_per_second, load.requests_per_second
    yield (
        f"users        {load.users:,}; {load.active_share:.0%} send {load.requests_per_day:g}"
        f" requests a day: {mean:.2f} requests a second, {peak:.2f} in the busiest hour"
    )
    yield (
        f"GPUs         {sizing.gpus_at(peak, load)} for {sizing.streams_at(peak):.1f} streams in"
        f" the busiest hour and {load.headroom:.0%} more,"
        f" {sizing.gpus_at(mean, load)} in the mean one, at least {load.min_gpus}"
    )


def _cost_lines(costs: Cost) -> Iterator[str]:
    yield (
        f"cost         ${costs.month:,.0f} a month, ${costs.scaled_month:,.0f} if scaled by load"
        f" (prices of {PRICES_OF})"
    )
    yield (
        f"             ${costs.million:.2f} for a million generated tokens then,"
        f" ${costs.full_million:.2f} on a GPU that is never idle"
    )


def _row(sizing: Sizing, costs: Cost | None, load: Load) -> str:
    row = f"{sizing.weight_bytes / GIB:5.1f}{sizing.cache_tokens:9,}{sizing.alone:7.1f}"
    if not sizing.streams:
        return f"{row}{'too slow':>10}"
    gpus = sizing.gpus_at(load.peak_requests_per_second, load)
    row += f"{sizing.streams:8}{sizing.per_gpu:8,.0f}{gpus:5}"
    if costs is None:
        return f"{row}{'no price':>9}"
    return f"{row}{costs.month:9,.0f}{costs.scaled_month:8,.0f}{costs.full_million:6.2f}"
