from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from core.queueing.workers import GpuStatus
from worker.observability.gpus import NoGpus, Nvml, NvmlGpus, open_gpus


class TwoGpus:
    """A driver with two GPUs, of which the second knows its name only."""

    NVMLError = pynvml.NVMLError
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, gpu: int) -> str | bytes:
        return ["NVIDIA H100", b"MIG"][gpu]

    def nvmlDeviceGetUtilizationRates(self, gpu: int) -> Any:
        return self._known(gpu, SimpleNamespace(gpu=87))

    def nvmlDeviceGetMemoryInfo(self, gpu: int) -> Any:
        return self._known(gpu, SimpleNamespace(used=3, total=8))

    def nvmlDeviceGetTemperature(self, gpu: int, sensor: int) -> Any:
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return self._known(gpu, 61)

    def _known(self, gpu: int, value: Any) -> Any:
        if gpu == 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return value


def test_what_the_driver_knows_is_told() -> None:
    assert NvmlGpus(Nvml(TwoGpus())).read() == (
        GpuStatus("NVIDIA H100", use=0.87, memory_used=3, memory_total=8, temperature=61),
        GpuStatus("MIG"),
    )


def test_a_driver_that_went_away_has_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = TwoGpus()

    def lost() -> int:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)

    monkeypatch.setattr(nvml, "nvmlDeviceGetCount", lost)

    assert NvmlGpus(Nvml(nvml)).read() == ()


def test_the_library_offers_what_is_asked_of_it() -> None:
    asked = [name for name in dir(TwoGpus) if name.startswith("nvml")]

    assert len(asked) == 6
    assert all(callable(getattr(pynvml, name)) for name in asked)


def test_a_machine_is_asked_for_its_gpus() -> None:
    gpus = open_gpus()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        assert isinstance(gpus, NoGpus)
    else:
        assert len(gpus.read()) == pynvml.nvmlDeviceGetCount()
