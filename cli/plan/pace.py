"""How fast a GPU writes: estimates by what its memory and its matrix units can do.

A decoding step reads all weights once for all streams, and each stream's cache. A prompt's tokens
are multiplied with all weights before its answer begins, and the others wait that long.
"""

from __future__ import annotations

from dataclasses import dataclass

from cli.plan.gpus import Gpu
from cli.plan.model_shape import ModelShape
from cli.plan.weights import BF16_BYTES, Weights, read_bytes


@dataclass(frozen=True, slots=True)
class Efficiency:
    """What an engine reaches of what a GPU could. Assumed, not measured: `model check` measures.

    Attributes:
        bandwidth: share of the memory's bandwidth while decoding.
        compute: share of the matrix units' pace while reading prompts.
        step_seconds: what each step takes beside both, with CUDA graphs on.
    """

    bandwidth: float = 0.7
    compute: float = 0.4
    step_seconds: float = 0.002


@dataclass(frozen=True, slots=True)
class Request:
    """A usual request, in tokens."""

    prompt: int
    answer: int

    @property
    def tokens(self) -> int:
        return self.prompt + self.answer


@dataclass(frozen=True, slots=True)
class Pace:
    """A model with certain weights on a GPU."""

    shape: ModelShape
    weights: Weights
    gpu: Gpu
    efficiency: Efficiency

    @property
    def token_seconds(self) -> float:
        """Seconds that the matrix units take for one token."""
        operations = 2 * (self.shape.linear_parameters + self.shape.embedding_parameters)
        return operations / (self.gpu.flops(self.weights) * self.efficiency.compute)

    def step_seconds(self, streams: int, context: float) -> float:
        """Return what one decoding step of so many streams takes, each with so many tokens."""
        bandwidth = self.gpu.bandwidth * self.efficiency.bandwidth
        weights = read_bytes(self.shape, self.weights) / bandwidth
        cache = streams * context * self.shape.cache_bytes_per_token(BF16_BYTES) / bandwidth
        return max(weights, streams * self.token_seconds) + cache + self.efficiency.step_seconds

    def answer_seconds(self, streams: int, request: Request) -> float:
        """Return how long an answer takes where so many are always under way.

        Until one has ended, each of the others has ended once too, and a new prompt took its place:
        all of them are read in that time.
        """
        context = request.prompt + request.answer / 2
        steps = request.answer * self.step_seconds(streams, context)
        return steps + streams * request.prompt * self.token_seconds

    def per_stream(self, streams: int, request: Request) -> float:
        """Return the tokens a second of each stream."""
        return request.answer / self.answer_seconds(streams, request)
