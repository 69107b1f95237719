"""What the driver says of this machine's GPUs, by NVML; nothing where there is none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from core.worker_registry import GpuStatus

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Gpus(Protocol):
    def read(self) -> tuple[GpuStatus, ...]: ...


class NoGpus:
    def read(self) -> tuple[GpuStatus, ...]:
        return ()


class NvmlGpus:
    """Asks the driver; it answers within a millisecond."""

    def __init__(self, nvml: Any) -> None:
        """Take the library, after its start."""
        self._nvml = nvml

    def read(self) -> tuple[GpuStatus, ...]:
        """Return what is known now; a GPU that the driver lost is left out."""
        count = self._ask(self._nvml.nvmlDeviceGetCount) or 0
        found = (self._read(index) for index in range(count))
        return tuple(status for status in found if status is not None)

    def _read(self, index: int) -> GpuStatus | None:
        nvml = self._nvml
        gpu = self._ask(nvml.nvmlDeviceGetHandleByIndex, index)
        if gpu is None:
            return None
        name = self._ask(nvml.nvmlDeviceGetName, gpu) or ""
        rates = self._ask(nvml.nvmlDeviceGetUtilizationRates, gpu)
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, gpu)
        return GpuStatus(
            name=name.decode() if isinstance(name, bytes) else name,
            use=None if rates is None else rates.gpu / 100,
            memory_used=0 if memory is None else memory.used,
            memory_total=0 if memory is None else memory.total,
            temperature=self._ask(nvml.nvmlDeviceGetTemperature, gpu, nvml.NVML_TEMPERATURE_GPU),
        )

    def _ask(self, question: Callable[..., T], *of: Any) -> T | None:
        """Return the answer; not every GPU, nor every part of one, knows everything."""
        try:
            return question(*of)
        except self._nvml.NVMLError:
            return None


def open_gpus() -> Gpus:
    """Return the GPUs of this machine, if there are a driver and the library `nvidia-ml-py`."""
    try:
        import pynvml  # not at the top: it is there on workers with a GPU only
    except ImportError:
        return NoGpus()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        _log.info("no GPU is shown: %s", type(error).__name__)
        return NoGpus()
    return NvmlGpus(pynvml)
