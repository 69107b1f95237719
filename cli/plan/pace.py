"""Estimate a GPU's generation speed from its memory bandwidth and its operations a second.

A decoding step reads all weights once for all streams, and the cache of each stream. A prefill
multiplies the prompt's tokens with all weights; the other streams wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from cli.plan.gpus import Gpu
from cli.plan.model_shape import ModelShape
from cli.plan.weights import BF16_BYTES, Weights, read_bytes


@dataclass(frozen=True, slots=True)
class Efficiency:
    """The share of a GPU's limits that an engine reaches: assumed; `model check` measures it.

    Attributes:
        bandwidth: share of the memory bandwidth while decoding.
        compute: share of the operations a second during prefill.
        step_seconds: fixed overhead of a step, with CUDA graphs.
    """

    bandwidth: float = 0.7
    compute: float = 0.4
    step_seconds: float = 0.002


@dataclass(frozen=True, slots=True)
class Request:
    """A typical request; lengths in tokens."""

    prompt: int
    completion: int

    @property
    def tokens(self) -> int:
        return self.prompt + self.completion


@dataclass(frozen=True, slots=True)
class Pace:
    """The speed of a model with given weights on a GPU."""

    shape: ModelShape
    weights: Weights
    gpu: Gpu
    efficiency: Efficiency

    @property
    def token_seconds(self) -> float:
        """Compute time of one token."""
        operations = 2 * (self.shape.linear_parameters + self.shape.embedding_parameters)
        return operations / (self.gpu.flops(self.weights) * self.efficiency.compute)

    def step_seconds(self, streams: int, context: float) -> float:
        """Return the time of one decoding step.

        Args:
            streams: number of concurrent streams.
            context: cached tokens of each stream.
        """
        bandwidth = self.gpu.bandwidth * self.efficiency.bandwidth
        weights = read_bytes(self.shape, self.weights) / bandwidth
        cache = streams * context * self.shape.cache_bytes_per_token(BF16_BYTES) / bandwidth
        return max(weights, streams * self.token_seconds) + cache + self.efficiency.step_seconds

    def completion_seconds(self, streams: int, request: Request) -> float:
        """Return the time of one completion at a constant number of streams.

        During this time each of the other streams ends once, and a new prompt replaces it. So the
        time includes one prefill for each stream.
        """
        context = request.prompt + request.completion / 2
        steps = request.completion * self.step_seconds(streams, context)
        return steps + streams * request.prompt * self.token_seconds

    def per_stream(self, streams: int, request: Request) -> float:
        """Return tokens a second of each stream."""
        return request.completion / self.completion_seconds(streams, request)
