"""GPUs that can be rented: what their makers and landlords say of them."""

from __future__ import annotations

from dataclasses import dataclass

from cli.plan.weights import Weights

GIB = 2**30
#: When the prices were on public pages. They change: look before you sign.
PRICES_OF = "November 2026"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU.

    Attributes:
        memory_bytes: what CUDA reports as total, a little less than the name says.
        bandwidth: bytes a second between its memory and its cores.
        bf16_flops: of its matrix units, dense; `fp8_flops` is 0 where they know no FP8.
        dollars_per_hour: of RunPod's Secure Cloud, on demand; `None` is not known.
    """

    name: str
    memory_bytes: int
    bandwidth: float
    bf16_flops: float
    fp8_flops: float
    dollars_per_hour: float | None

    def takes(self, weights: Weights) -> bool:
        """Whether the library runs such weights on it: FP8 from compute capability 8.9 on."""
        return weights is not Weights.FP8 or self.fp8_flops > 0

    def flops(self, weights: Weights) -> float:
        """Return its pace for them; AWQ's are turned into bf16 before they are multiplied."""
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
