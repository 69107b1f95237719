"""Compute the number of GPUs and their cost from a model, a GPU and users."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cli.plan.cache import CacheOptions, cache_tokens, padded
from cli.plan.gpus import GIB
from cli.plan.pace import Pace, Request
from cli.plan.weights import weight_bytes
from core.errors import LauncherError

DAY_SECONDS = 86_400
MONTH_HOURS = 730
#: Upper bound of streams on one GPU in this plan.
MAX_STREAMS = 4096


@dataclass(frozen=True, slots=True)
class Load:
    """The users and their requests.

    Attributes:
        active_share: share of users that are active on a typical day.
        requests_per_day: requests of an active user.
        peak_factor: requests of the busiest hour, divided by those of the mean hour.
        headroom: additional share of streams for the busiest minutes of the busiest hour.
        min_gpus: GPUs that always run, so that one may fail.
    """

    users: int = 10_000
    active_share: float = 0.3
    requests_per_day: float = 20.0
    peak_factor: float = 3.0
    headroom: float = 0.25
    min_gpus: int = 2

    @property
    def requests_per_second(self) -> float:
        """Mean of a day."""
        return self.users * self.active_share * self.requests_per_day / DAY_SECONDS

    @property
    def peak_requests_per_second(self) -> float:
        return self.requests_per_second * self.peak_factor


@dataclass(frozen=True, slots=True)
class Sizing:
    """The capacity of one GPU with its model.

    Attributes:
        target: tokens a second of each stream.
        streams: concurrent streams at the target; 0 if even a single one is too slow.
        bound: the resource that limits the streams.
    """

    pace: Pace
    request: Request
    target: float
    options: CacheOptions
    weight_bytes: int
    cache_tokens: int
    streams: int
    bound: str

    @property
    def alone(self) -> float:
        """Tokens a second of a single stream on the GPU."""
        return self.pace.per_stream(1, self.request)

    @property
    def per_stream(self) -> float:
        return self.pace.per_stream(self.streams, self.request) if self.streams else 0.0

    @property
    def per_gpu(self) -> float:
        return self.streams * self.per_stream

    @property
    def stall_seconds(self) -> float:
        """How long a step full of prompts delays the other streams."""
        return self.options.max_batch_tokens * self.pace.token_seconds

    def streams_at(self, requests_per_second: float) -> float:
        """Return the mean number of concurrent streams: request rate times completion time."""
        return requests_per_second * self.pace.completion_seconds(self.streams, self.request)

    def gpus_at(self, requests_per_second: float, load: Load) -> int:
        """Return the number of GPUs that reach the target at this request rate."""
        wanted = self.streams_at(requests_per_second) * (1 + load.headroom)
        return max(load.min_gpus, math.ceil(wanted / self.streams))


def size(pace: Pace, request: Request, *, options: CacheOptions, target: float) -> Sizing:
    """Size one GPU: as many streams as fit the memory and reach the target.

    Raises:
        LauncherError: the GPU does not support the weights, or has no memory for one request.
    """
    shape, gpu = pace.shape, pace.gpu
    if not gpu.supports(pace.weights):
        raise LauncherError(f"{gpu.name} does not support {pace.weights} weights: use awq or bf16")
    if request.tokens > shape.max_position_embeddings:
        raise LauncherError(
            f"{request.prompt} prompt and {request.completion} completion tokens are more than the"
            f" {shape.max_position_embeddings} that {shape.name} was made for"
        )
    weights = weight_bytes(shape, pace.weights)

    def room(sequences: int) -> int:
        """Return the cache's tokens if so many sequences may share a step."""
        with_sequences = CacheOptions(
            max_sequences=sequences,
            max_batch_tokens=options.max_batch_tokens,
            page_size=options.page_size,
            async_batching=options.async_batching,
        )
        return cache_tokens(
            shape, memory_bytes=gpu.memory_bytes, weights=weights, options=with_sequences
        )

    each = padded(request.tokens, options.page_size)
    if room(1) < each:
        raise LauncherError(
            f"{shape.name} in {pace.weights} does not fit {gpu.name}: its weights take"
            f" {weights / GIB:.1f} of {gpu.memory_bytes / GIB:.0f} GiB, which leaves a cache of"
            f" {room(1)} tokens, and one request needs {each}"
        )
    streams, bound = 0, "the pace"
    while pace.per_stream(streams + 1, request) >= target:
        if (streams + 1) * each > room(streams + 1):
            bound = "the cache"
            break
        if streams + 1 > min(options.max_batch_tokens, MAX_STREAMS):
            bound = "ENGINE_MAX_BATCH_TOKENS"
            break
        streams += 1
    return Sizing(
        pace=pace,
        request=request,
        target=target,
        options=options,
        weight_bytes=weights,
        cache_tokens=room(max(1, streams)),
        streams=streams,
        bound=bound,
    )


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a load, in dollars.

    Attributes:
        month: a month with the GPUs of the busiest hour running all the time.
        scaled_month: a month with the GPUs of the mean hour: the aim of scaling by load.
        million: a million generated tokens at this load, scaled.
        full_million: a million generated tokens on a GPU that is never idle.
    """

    month: float
    scaled_month: float
    million: float
    full_million: float


def cost(sizing: Sizing, load: Load, dollars_per_hour: float) -> Cost:
    peak = sizing.gpus_at(load.peak_requests_per_second, load)
    mean = sizing.gpus_at(load.requests_per_second, load)
    scaled = mean * MONTH_HOURS * dollars_per_hour
    tokens = load.requests_per_second * sizing.request.completion * MONTH_HOURS * 3600
    return Cost(
        month=peak * MONTH_HOURS * dollars_per_hour,
        scaled_month=scaled,
        million=scaled / tokens * 1e6,
        full_million=dollars_per_hour / (sizing.per_gpu * 3600) * 1e6,
    )
