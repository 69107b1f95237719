"""GPUs report every value that the driver knows, in heartbeats and metrics."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from core.queueing.workers import GpuStatus
from worker.observability.gpus import GpuCollector, NoGpus, NvmlGpus, open_gpus


class FakeDriver:
    """NVML on a machine with two GPUs. The second GPU does not know its power."""

    NVMLError = pynvml.NVMLError
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, gpu: int) -> str | bytes:
        return ["NVIDIA H100", b"MIG"][gpu]

    def nvmlDeviceGetUUID(self, gpu: int) -> str:
        return f"GPU-{gpu}"

    def nvmlDeviceGetUtilizationRates(self, gpu: int) -> Any:
        return SimpleNamespace(gpu=75, memory=10)

    def nvmlDeviceGetMemoryInfo(self, gpu: int) -> Any:
        return SimpleNamespace(used=60, total=80, free=20)

    def nvmlDeviceGetTemperature(self, gpu: int, sensor: int) -> int:
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return 50 + gpu

    def nvmlDeviceGetPowerUsage(self, gpu: int) -> int:
        if gpu == 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return 350_000


class FailingDriver(FakeDriver):
    """The same driver, with functions that fail for one GPU."""

    def __init__(self, *functions: str, gpu: int = 0) -> None:
        self._functions = functions
        self._gpu = gpu

    def __getattribute__(self, name: str) -> Any:
        if name not in super().__getattribute__("_functions"):
            return super().__getattribute__(name)

        def fail(gpu: int = self._gpu, *arguments: Any) -> Any:
            if gpu == self._gpu:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
            return getattr(FakeDriver(), name)(gpu, *arguments)

        return fail


def samples(driver: FakeDriver) -> dict[tuple[str, str], float]:
    """Return the exported values by metric and index of the GPU."""
    return {
        (sample.name.removeprefix("bountycoder_gpu_"), sample.labels["gpu"]): sample.value
        for metric in GpuCollector(NvmlGpus(driver)).collect()
        for sample in metric.samples
    }


def test_a_heartbeat_has_every_value_that_the_driver_knows() -> None:
    values = ("UtilizationRates", "MemoryInfo", "Temperature")
    driver = FailingDriver(*(f"nvmlDeviceGet{value}" for value in values), gpu=1)

    assert [reading.status for reading in NvmlGpus(driver).read()] == [
        GpuStatus("NVIDIA H100", use=0.75, memory_used=60, memory_total=80, temperature=50),
        GpuStatus("MIG"),
    ]


def test_metrics_have_every_value_that_the_driver_knows() -> None:
    assert samples(FakeDriver()) == {
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


@pytest.mark.parametrize("function", ["nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUUID"])
def test_a_lost_gpu_does_not_hide_the_others(function: str) -> None:
    assert {gpu for _, gpu in samples(FailingDriver(function))} == {"1"}


def test_a_driver_that_does_not_respond_has_no_gpus() -> None:
    driver = FailingDriver("nvmlDeviceGetCount")

    assert not NvmlGpus(driver).read()
    assert not list(GpuCollector(NvmlGpus(driver)).collect())


def test_a_machine_without_gpus_has_no_metrics() -> None:
    assert not list(GpuCollector(NoGpus()).collect())


def test_the_library_has_every_function_of_the_fake_driver() -> None:
    called = {name for name in vars(FakeDriver) if not name.startswith("__")}

    assert {name for name in called if not hasattr(pynvml, name)} == set()


def test_the_gpus_of_this_machine_are_opened() -> None:
    gpus = open_gpus()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        assert isinstance(gpus, NoGpus)
    else:
        assert len(gpus.read()) == pynvml.nvmlDeviceGetCount()
