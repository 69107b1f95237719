"""What a failure of the loop means for the engine."""

from __future__ import annotations

from enum import StrEnum

import torch


class FaultKind(StrEnum):
    """`DEVICE` cannot be mended in this process; the others can."""

    REQUEST = "a request or a bug"
    MEMORY = "a lack of memory"
    DEVICE = "the device"


def classify_fault(error: BaseException | None) -> FaultKind:
    """Return what kind of failure an error of the loop is."""
    text = str(error).lower()
    if isinstance(error, torch.OutOfMemoryError) or "out of memory" in text:
        return FaultKind.MEMORY
    if "can't allocate memory" in text:  # torch's words on a CPU
        return FaultKind.MEMORY
    if isinstance(error, torch.AcceleratorError) or "cuda error" in text or "cublas" in text:
        return FaultKind.DEVICE
    return FaultKind.REQUEST
