"""From a model, a GPU and users to how many GPUs they need, and what that costs."""

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
#: A GPU takes no more streams in this plan, however short they are.
MOST_STREAMS = 4096


@dataclass(frozen=True, slots=True)
class Load:
    """Who asks, how often.

    Attributes:
        active_share: of the users, those who ask on a usual day.
        peak_factor: the busiest hour's requests over the mean hour's.
        headroom: places beside the mean of the busiest hour, for its busier minutes.
        min_gpus: so many run at any hour, so that one may fail.
    """

    users: int = 10_000
    active_share: float = 0.3
    requests_per_day: float = 20.0
    peak_factor: float = 3.0
    headroom: float = 0.25
    min_gpus: int = 2

    @property
    def requests_per_second(self) -> float:
        """In the mean of a day."""
        return self.users * self.active_share * self.requests_per_day / DAY_SECONDS

    @property
    def peak_requests_per_second(self) -> float:
        return self.requests_per_second * self.peak_factor


@dataclass(frozen=True, slots=True)
class Sizing:
    """What one GPU does with its model. `streams` is 0 where even one alone is too slow."""

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
        """Tokens a second of a stream that has the GPU to itself."""
        return self.pace.per_stream(1, self.request)

    @property
    def per_stream(self) -> float:
        return self.pace.per_stream(self.streams, self.request) if self.streams else 0.0

    @property
    def per_gpu(self) -> float:
        return self.streams * self.per_stream

    @property
    def stall_seconds(self) -> float:
        """Return how long a step full of prompts holds the others up."""
        return self.options.max_batch_tokens * self.pace.token_seconds

    def streams_at(self, requests_per_second: float) -> float:
        """Return how many are under way at once: their rate times how long each takes."""
        return requests_per_second * self.pace.answer_seconds(self.streams, self.request)

    def gpus_at(self, requests_per_second: float, load: Load) -> int:
        """Return how many GPUs keep the pace at such a rate."""
        wanted = self.streams_at(requests_per_second) * (1 + load.headroom)
        return max(load.min_gpus, math.ceil(wanted / self.streams))


def size(pace: Pace, request: Request, *, options: CacheOptions, target: float) -> Sizing:
    """Size one GPU: as many streams as memory allows and as are fast enough.

    Raises:
        LauncherError: the GPU does not run such weights, or they leave no room for one request.
    """
    shape, gpu = pace.shape, pace.gpu
    if not gpu.takes(pace.weights):
        raise LauncherError(f"{gpu.name} does not run {pace.weights} weights: take awq or bf16")
    if request.tokens > shape.max_position_embeddings:
        raise LauncherError(
            f"{request.prompt} prompt and {request.answer} answer tokens are more than the"
            f" {shape.max_position_embeddings} that {shape.name} was made for"
        )
    weights = weight_bytes(shape, pace.weights)

    def room(sequences: int) -> int:
        """Return the cache's tokens where so many sequences may share a step."""
        given = CacheOptions(
            max_sequences=sequences,
            max_batch_tokens=options.max_batch_tokens,
            page_size=options.page_size,
            async_batching=options.async_batching,
        )
        return cache_tokens(shape, memory_bytes=gpu.memory_bytes, weights=weights, options=given)

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
        if streams + 1 > min(options.max_batch_tokens, MOST_STREAMS):
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
    """What a load costs on such GPUs, in dollars.

    Attributes:
        month: with as many GPUs at any hour as the busiest needs.
        scaled_month: with as many as the mean hour needs: what scaling by load comes near to.
        million: of generated tokens at that load, scaled.
        full_million: the same on a GPU that is never idle.
    """

    month: float
    scaled_month: float
    million: float
    full_million: float


def cost(sizing: Sizing, load: Load, dollars_per_hour: float) -> Cost:
    peak = sizing.gpus_at(load.peak_requests_per_second, load)
    mean = sizing.gpus_at(load.requests_per_second, load)
    scaled = mean * MONTH_HOURS * dollars_per_hour
    tokens = load.requests_per_second * sizing.request.answer * MONTH_HOURS * 3600
    return Cost(
        month=peak * MONTH_HOURS * dollars_per_hour,
        scaled_month=scaled,
        million=scaled / tokens * 1e6,
        full_million=dollars_per_hour / (sizing.per_gpu * 3600) * 1e6,
    )
