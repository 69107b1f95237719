"""What a failure of the loop means for the engine."""

from __future__ import annotations

from enum import StrEnum

import torch


class Fault(StrEnum):
    """`DEVICE` cannot be mended in this process; the others can."""

    REQUEST = "a request or a bug"
    MEMORY = "a lack of memory"
    DEVICE = "the device"


def classify(error: BaseException | None) -> Fault:
    """Return what kind of failure an error of the loop is."""
    text = str(error).lower()
    if isinstance(error, torch.OutOfMemoryError) or "out of memory" in text:
        return Fault.MEMORY
    if "can't allocate memory" in text:  # torch's words on a CPU
        return Fault.MEMORY
    if isinstance(error, torch.AcceleratorError) or "cuda error" in text or "cublas" in text:
        return Fault.DEVICE
    return Fault.REQUEST
