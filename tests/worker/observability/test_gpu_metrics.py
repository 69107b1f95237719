"""What is shown of GPUs: all that the driver says, and no more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from worker.observability.gpu_metrics import GpuFacts


class Driver:
    """Stands in for NVML on a machine with two GPUs, of which the second tells no power."""

    NVMLError = pynvml.NVMLError
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUUID(self, gpu: int) -> str:
        return f"GPU-{gpu}"

    def nvmlDeviceGetUtilizationRates(self, gpu: int) -> Any:
        return SimpleNamespace(gpu=75, memory=10)

    def nvmlDeviceGetMemoryInfo(self, gpu: int) -> Any:
        return SimpleNamespace(used=60, total=80, free=20)

    def nvmlDeviceGetTemperature(self, gpu: int, sensor: int) -> int:
        return 50 + gpu

    def nvmlDeviceGetPowerUsage(self, gpu: int) -> int:
        if gpu == 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return 350_000


class Lost(Driver):
    """The same, after the first GPU fell off the bus: whatever is asked of it is an error."""

    def __init__(self, question: str) -> None:
        self._question = question

    def __getattribute__(self, name: str) -> Any:
        if name == super().__getattribute__("_question"):

            def lost(gpu: int = 0, *of: Any) -> Any:
                if gpu == 0:
                    raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
                return getattr(Driver(), name)(gpu, *of)

            return lost
        return super().__getattribute__(name)


@pytest.mark.parametrize("question", ["nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUUID"])
def test_a_lost_gpu_takes_nothing_with_it(question: str) -> None:
    shown = {
        sample.labels["gpu"]
        for metric in GpuFacts(Lost(question)).collect()
        for sample in metric.samples
    }

    assert shown == {"1"}


def test_a_driver_that_is_gone_shows_no_gpu() -> None:
    assert not [m for m in GpuFacts(Lost("nvmlDeviceGetCount")).collect() if m.samples]


def test_each_gpu_is_shown_with_what_it_knows() -> None:
    shown = {
        (sample.name.removeprefix("bountycoder_gpu_"), sample.labels["gpu"]): sample.value
        for metric in GpuFacts(Driver()).collect()
        for sample in metric.samples
    }

    assert shown == {
        ("utilization_ratio", "0"): 0.75,
        ("utilization_ratio", "1"): 0.75,
        ("memory_used_bytes", "0"): 60,
        ("memory_used_bytes", "1"): 60,
        ("memory_total_bytes", "0"): 80,
        ("memory_total_bytes", "1"): 80,
        ("temperature_celsius", "0"): 50,
        ("temperature_celsius", "1"): 51,
        ("power_watts", "0"): 350,
    }


def test_the_library_has_all_that_is_asked_of_it() -> None:
    asked = {name for name in vars(Driver) if not name.startswith("__")}

    assert {name for name in asked if not hasattr(pynvml, name)} == set()


def test_without_a_driver_nothing_is_shown_and_nothing_fails() -> None:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        assert GpuFacts.opened() is None
    else:
        assert GpuFacts.opened() is not None
