"""Choose the model that `bountycoder up` serves; convert the small one at the first start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.system.child_process import Child, Tick, wait_until
from cli.up.progress import StartProgress
from core.errors import LauncherError
from core.text.integers import bounded_integer

SMALL_MODEL = "smollm2-135m-instruct"
CONVERSION_SECONDS = 900.0
DISK_FULL = "No space left on device"


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model: a directory, or a name on the hub.

    Attributes:
        name: the name that customers see; `None` leaves it to the settings.
        is_missing: the model is the small one and must be converted first.
    """

    path: str
    name: str | None
    is_missing: bool = False

    @classmethod
    def choose(cls, option: str | None, environment: Mapping[str, str], models: Path) -> LocalModel:
        """Choose the model: the option, else `MODEL_PATH`, else the small one.

        Raises:
            LauncherError: the chosen directory holds no model.
        """
        chosen = option or environment.get("MODEL_PATH")
        if not chosen:
            path = Path(environment.get("MODEL_STORE") or models).absolute() / SMALL_MODEL
            return cls(str(path), SMALL_MODEL, is_missing=not _holds_model(path))
        path = Path(chosen).expanduser()
        if _holds_model(path):
            return cls(str(path.resolve()), path.resolve().name.lower())
        if path.exists() or chosen.startswith((".", "/", "~")):
            raise LauncherError(f"no model at {path}: there is no config.json")
        return cls(chosen, None)


class Conversion:
    """A process that converts the small model while the servers start."""

    def __init__(self, model: LocalModel, *, log_dir: Path, progress: StartProgress) -> None:
        self._model = model
        self._progress = progress
        self._lines = b""
        self._child = Child.start(
            "convert",
            [sys.executable, "-m", "worker.engine.hf.tools.convert", model.path],
            log_dir=log_dir,
            stdout=subprocess.PIPE,
        )
        os.set_blocking(self._output, False)

    def wait(self, tick: Tick) -> None:
        """Wait until the model exists.

        Raises:
            LauncherError: the conversion failed.
        """
        wait_until(self._is_over, timeout_seconds=CONVERSION_SECONDS, what="the model", tick=tick)
        if self._child.process.returncode != 0:
            raise self._fault()

    def stop(self) -> None:
        """Kill the process if it still runs; the next conversion removes its unfinished files."""
        self._child.kill()
        assert self._child.process.stdout is not None
        self._child.process.stdout.close()

    @property
    def _output(self) -> int:
        assert self._child.process.stdout is not None
        return self._child.process.stdout.fileno()

    def _is_over(self) -> bool:
        is_over = not self._child.is_alive()
        try:
            self._lines += os.read(self._output, 4096)
        except BlockingIOError:
            return is_over
        *_, last = [b"", *self._lines.rpartition(b"\n")[0].splitlines()]
        first, _, doing = last.decode(errors="replace").partition("% ")
        percent = bounded_integer(first)
        if percent is not None:
            self._progress.step(f"converting the model, once: {doing}", percent)
        return is_over

    def _fault(self) -> LauncherError:
        if DISK_FULL in self._child.log_tail():
            return LauncherError(f"disk full: the model cannot be written to {self._model.path}")
        last = self._child.last_log_line().removeprefix("bountycoder: ")
        return LauncherError(f"the model cannot be converted: {last} (log: {self._child.log})")


def _holds_model(path: Path) -> bool:
    return (path / "config.json").is_file()
