"""What the driver says of this machine's GPUs, by NVML; nothing where there is none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from core.queueing.workers import GpuStatus

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Gpus(Protocol):
    def read(self) -> tuple[GpuStatus, ...]: ...


class NoGpus:
    def read(self) -> tuple[GpuStatus, ...]:
        return ()


class Nvml:
    """Asks the driver one thing at a time.

    Not every GPU knows everything, and one that the driver lost answers nothing: what is not known
    is left out, and never ends the telling of what is.
    """

    def __init__(self, library: Any) -> None:
        """Take the library, after its start."""
        self.library = library

    def gpus(self) -> Iterator[tuple[int, Any]]:
        """Yield the number and the handle of each GPU that the driver has."""
        for index in range(self.ask(self.library.nvmlDeviceGetCount) or 0):
            gpu = self.ask(self.library.nvmlDeviceGetHandleByIndex, index)
            if gpu is not None:
                yield index, gpu

    def ask(self, question: Callable[..., T], *of: Any) -> T | None:
        """Return the answer, `None` if there is none."""
        try:
            return question(*of)
        except self.library.NVMLError:
            return None


class NvmlGpus:
    """Asks the driver; it answers within a millisecond."""

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml

    def read(self) -> tuple[GpuStatus, ...]:
        """Return what is known now; a GPU that the driver lost is left out."""
        return tuple(self._read(gpu) for _, gpu in self._nvml.gpus())

    def _read(self, gpu: Any) -> GpuStatus:
        nvml, ask = self._nvml.library, self._nvml.ask
        name = ask(nvml.nvmlDeviceGetName, gpu) or ""
        rates = ask(nvml.nvmlDeviceGetUtilizationRates, gpu)
        memory = ask(nvml.nvmlDeviceGetMemoryInfo, gpu)
        return GpuStatus(
            name=name.decode() if isinstance(name, bytes) else name,
            use=None if rates is None else rates.gpu / 100,
            memory_used=0 if memory is None else memory.used,
            memory_total=0 if memory is None else memory.total,
            temperature=ask(nvml.nvmlDeviceGetTemperature, gpu, nvml.NVML_TEMPERATURE_GPU),
        )


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
    return NvmlGpus(Nvml(pynvml))
