"""GPUs for rent: their makers' specifications, and prices."""

from __future__ import annotations

from dataclasses import dataclass

from cli.plan.weights import Weights

GIB = 2**30
#: Date of the public prices. They change: check them before you sign a contract.
PRICES_OF = "November 2026"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU.

    Attributes:
        memory_bytes: total memory as CUDA reports it, a little less than the name says.
        bandwidth: memory bandwidth in bytes a second.
        bf16_flops: dense operations a second of the matrix units.
        fp8_flops: the same in FP8; 0 if the GPU does not support FP8.
        dollars_per_hour: on-demand price in RunPod's Secure Cloud; `None` if unknown.
    """

    name: str
    memory_bytes: int
    bandwidth: float
    bf16_flops: float
    fp8_flops: float
    dollars_per_hour: float | None

    def supports(self, weights: Weights) -> bool:
        """Return whether the GPU supports these weights: FP8 needs compute capability 8.9."""
        return weights is not Weights.FP8 or self.fp8_flops > 0

    def flops(self, weights: Weights) -> float:
        """Return operations a second with these weights; AWQ multiplies in bf16."""
        return self.fp8_flops if weights is Weights.FP8 else self.bf16_flops


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("a100-80-pcie", 79 * GIB, 1.935e12, 312e12, 0, 1.79),
        Gpu("a100-80", 79 * GIB, 2.039e12, 312e12, 0, 1.79),
        Gpu("h100-pcie", 79 * GIB, 2.0e12, 756e12, 1513e12, 2.89),
        Gpu("h100", 79 * GIB, 3.35e12, 989e12, 1979e12, 3.99),
        Gpu("h200", 139 * GIB, 4.8e12, 989e12, 1979e12, 4.59),
        Gpu("l40s", 44 * GIB, 0.864e12, 362e12, 733e12, None),
    )
}
