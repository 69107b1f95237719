"""What the driver says of the GPUs, by NVML; nothing where there is none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from core.observability.metrics import PREFIX
from worker.observability.gpus import Nvml

_log = logging.getLogger(__name__)

_LABELS = ("gpu", "uuid")


class GpuFacts(Collector):
    """Asks the driver when it is asked; `opened` says whether there is one."""

    def __init__(self, nvml: Any) -> None:
        """Take the library, after its start."""
        self._nvml = Nvml(nvml)
        temperature, by = nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU
        #: Of each fact its name, its text, and what reads it of a device.
        self._facts: list[tuple[str, str, Callable[[Any], float]]] = [
            (
                "utilization_ratio",
                "Share of time in which a kernel ran.",
                lambda gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
            ),
            (
                "memory_used_bytes",
                "Memory of the GPU in use.",
                lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
            ),
            (
                "memory_total_bytes",
                "Memory of the GPU.",
                lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).total,
            ),
            ("temperature_celsius", "Temperature.", lambda gpu: temperature(gpu, by)),
            ("power_watts", "Power drawn.", lambda gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000),
        ]

    @classmethod
    def opened(cls) -> GpuFacts | None:
        """Return the facts of this machine's GPUs; `None` if there is none, or no library."""
        try:
            import pynvml  # not at the top: only workers have it

            pynvml.nvmlInit()
        except ImportError:
            return None
        except pynvml.NVMLError as error:
            _log.info("no GPU is measured: %s", type(error).__name__)
            return None
        return cls(pynvml)

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        shown = [
            GaugeMetricFamily(f"{PREFIX}_gpu_{name}", text, labels=_LABELS)
            for name, text, _ in self._facts
        ]
        for index, gpu in self._nvml.gpus():
            uuid = self._nvml.ask(self._nvml.library.nvmlDeviceGetUUID, gpu)
            if uuid is None:
                continue  # without it nobody can tell whose facts they are
            for metric, (_, _, read) in zip(shown, self._facts, strict=True):
                value = self._nvml.ask(read, gpu)
                if value is not None:
                    metric.add_metric([str(index), uuid], value)
        return shown
