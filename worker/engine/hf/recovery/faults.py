"""Classifies failures of the loop by what the engine can do about them."""

from __future__ import annotations

from enum import StrEnum

import torch


class FaultKind(StrEnum):
    """The kind of a failure; only after `DEVICE` the process must be replaced."""

    REQUEST = "a request or a bug"
    MEMORY = "a lack of memory"
    DEVICE = "the device"


def classify_fault(error: BaseException | None) -> FaultKind:
    """Return the kind of an error that ended the loop."""
    text = str(error).lower()
    if isinstance(error, torch.OutOfMemoryError) or "out of memory" in text:
        return FaultKind.MEMORY
    if "can't allocate memory" in text:  # torch's message on a CPU
        return FaultKind.MEMORY
    if isinstance(error, torch.AcceleratorError) or "cuda error" in text or "cublas" in text:
        return FaultKind.DEVICE
    return FaultKind.REQUEST
