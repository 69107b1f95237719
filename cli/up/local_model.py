"""Which model `bountycoder up` serves, and the conversion of the small one at the first start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.system.child_process import Child, Tick, wait_until
from cli.up.progress import Progress
from core.errors import LauncherError

SMALL_MODEL = "smollm2-135m-instruct"
CONVERSION_SECONDS = 900.0
DISK_FULL = "No space left on device"


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model: a directory, or a name on the hub.

    Attributes:
        name: what customers see; `None` leaves it to the settings.
        is_missing: it is the small model and must be made first.
    """

    path: str
    name: str | None
    is_missing: bool = False

    @classmethod
    def choose(cls, option: str | None, environment: Mapping[str, str], models: Path) -> LocalModel:
        """Find the model: the option, else `MODEL_PATH`, else the small one in its store.

        Raises:
            LauncherError: a directory is named that holds no model.
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
    """The small model being made by another process, while the servers start."""

    def __init__(self, model: LocalModel, *, log_dir: Path, progress: Progress) -> None:
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
        """Return when the model is there.

        Raises:
            LauncherError: it could not be made.
        """
        wait_until(self._is_over, timeout_seconds=CONVERSION_SECONDS, what="the model", tick=tick)
        if self._child.process.returncode != 0:
            raise self._fault()

    def stop(self) -> None:
        """Kill the process, if it still runs; what it has written is removed by the next one."""
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
        percent, _, doing = last.decode(errors="replace").partition("% ")
        if percent.isdigit():
            self._progress.step(f"making the model, once: {doing}", int(percent))
        return is_over

    def _fault(self) -> LauncherError:
        if DISK_FULL in self._child.log_tail():
            return LauncherError(f"disk full: the model cannot be written to {self._model.path}")
        last = self._child.last_words().removeprefix("bountycoder: ")
        return LauncherError(f"the model cannot be made: {last} (log: {self._child.log})")


def _holds_model(path: Path) -> bool:
    return (path / "config.json").is_file()
