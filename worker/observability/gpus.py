"""Reads this machine's GPUs by NVML, for the heartbeat and the metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from core.observability.metrics import PREFIX
from core.queueing.workers import GpuStatus

_log = logging.getLogger(__name__)

T = TypeVar("T")

#: Name, help text and attribute of `GpuReading` of each metric.
_METRICS = (
    ("utilization_ratio", "Share of time in which a kernel ran.", "utilization"),
    ("memory_used_bytes", "Memory of the GPU in use.", "memory_used_bytes"),
    ("memory_total_bytes", "Memory of the GPU.", "memory_total_bytes"),
    ("temperature_celsius", "Temperature.", "temperature_celsius"),
    ("power_watts", "Power drawn.", "power_watts"),
)


@dataclass(frozen=True, slots=True)
class GpuReading:
    """The state of one GPU. A value that the driver does not report is `None`.

    Attributes:
        index: number of the GPU, as the driver counts.
        utilization: share of time in which a kernel ran, 0 to 1.
    """

    index: int
    uuid: str | None = None
    name: str = ""
    utilization: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_celsius: int | None = None
    power_watts: float | None = None

    @property
    def status(self) -> GpuStatus:
        """The part that a heartbeat carries."""
        return GpuStatus(
            name=self.name,
            use=self.utilization,
            memory_used=self.memory_used_bytes or 0,
            memory_total=self.memory_total_bytes or 0,
            temperature=self.temperature_celsius,
        )


class Gpus(Protocol):
    def read(self) -> Sequence[GpuReading]: ...


class NoGpus:
    """The GPUs of a machine without a driver."""

    def read(self) -> Sequence[GpuReading]:
        return ()


class NvmlGpus:
    """Asks the driver for each value separately, in under a millisecond.

    A GPU may not support a value, and a lost GPU reports nothing. A missing value never prevents
    the others from being read.
    """

    def __init__(self, nvml: Any) -> None:
        """Take the library, already initialized."""
        self._nvml = nvml

    def read(self) -> Sequence[GpuReading]:
        """Return the current readings; omit GPUs that the driver lost."""
        return [self._read(index, handle) for index, handle in self._handles()]

    def _handles(self) -> Iterator[tuple[int, Any]]:
        for index in range(self._ask(self._nvml.nvmlDeviceGetCount) or 0):
            handle = self._ask(self._nvml.nvmlDeviceGetHandleByIndex, index)
            if handle is not None:
                yield index, handle

    def _read(self, index: int, handle: Any) -> GpuReading:
        nvml, ask = self._nvml, self._ask
        name = ask(nvml.nvmlDeviceGetName, handle) or ""
        rates = ask(nvml.nvmlDeviceGetUtilizationRates, handle)
        memory = ask(nvml.nvmlDeviceGetMemoryInfo, handle)
        milliwatts = ask(nvml.nvmlDeviceGetPowerUsage, handle)
        return GpuReading(
            index=index,
            uuid=ask(nvml.nvmlDeviceGetUUID, handle),
            name=name.decode() if isinstance(name, bytes) else name,
            utilization=None if rates is None else rates.gpu / 100,
            memory_used_bytes=None if memory is None else memory.used,
            memory_total_bytes=None if memory is None else memory.total,
            temperature_celsius=ask(
                nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU
            ),
            power_watts=None if milliwatts is None else milliwatts / 1000,
        )

    def _ask(self, function: Callable[..., T], *arguments: Any) -> T | None:
        """Call the driver; return `None` for its error."""
        try:
            return function(*arguments)
        except self._nvml.NVMLError:
            return None


class GpuCollector(Collector):
    """Reads the GPUs at each scrape. Without a GPU there are no metrics."""

    def __init__(self, gpus: Gpus) -> None:
        self._gpus = gpus

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        # A reading without a UUID cannot be attributed to a GPU.
        readings = [reading for reading in self._gpus.read() if reading.uuid is not None]
        for name, text, attribute in _METRICS:
            metric = GaugeMetricFamily(f"{PREFIX}_gpu_{name}", text, labels=("gpu", "uuid"))
            for reading in readings:
                value = getattr(reading, attribute)
                if value is not None:
                    metric.add_metric([str(reading.index), reading.uuid or ""], value)
            if metric.samples:
                yield metric


def open_gpus() -> Gpus:
    """Return this machine's GPUs; none without a driver or `nvidia-ml-py`."""
    try:
        import pynvml  # not at the top: only workers with a GPU have it
    except ImportError:
        return NoGpus()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        _log.info("GPUs are not reported: %s", type(error).__name__)
        return NoGpus()
    return NvmlGpus(pynvml)
