"""`bountycoder up`, as its user starts, reads and kills it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from cli.system.ports import free_port
from tests.support.paths import ROOT
from tests.support.polling import wait_until
from tests.support.processes import with_descendants

READY_SECONDS = 120.0
STOP_SECONDS = 60.0


@dataclass
class Instance:
    """One data directory, and the `up` that serves it from time to time."""

    data_dir: Path
    model_store: Path
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    api_port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def up(self) -> Iterator[Instance]:
        """Run it until the block ends."""
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def start(self) -> None:
        output = self.data_dir.with_name(self.data_dir.name + ".out")
        command = [sys.executable, "-m", "cli.main", "up", "--data-dir", str(self.data_dir)]
        command += ["--api-port", str(self.api_port), "--admin-port", str(self.admin_port)]
        with open(output, "wb") as file:
            self.process = subprocess.Popen(
                [*command, *self.options],
                cwd=ROOT,
                env={**os.environ, "MODEL_STORE": str(self.model_store), **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._output = output
        wait_until(self._has_announced, READY_SECONDS, self.output)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it with a signal and return the exit code."""
        process = self.process
        assert process is not None
        if process.poll() is None:
            process.send_signal(number)
        return process.wait(STOP_SECONDS)

    def processes(self) -> set[psutil.Process]:
        """Return every process of this instance."""
        assert self.process is not None
        run_file = json.loads((self.data_dir / "run.json").read_text())
        return with_descendants([self.process.pid, *run_file["pids"].values()])

    def output(self) -> str:
        logs = [path.read_text() for path in sorted(self.data_dir.glob("logs/*.log"))]
        return "\n".join([self._output.read_text(), *logs])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def database_url(self) -> str:
        run_file: dict[str, Any] = json.loads((self.data_dir / "run.json").read_text())
        return str(run_file["environment"]["DATABASE_URL"])

    @property
    def key(self) -> str:
        found = re.search(r"bc_[0-9a-z]{12}_[\w-]{43}", self._output.read_text())
        assert found, self.output()
        return found[0]

    @property
    def curl(self) -> str:
        """The line that can be pasted."""
        found = re.search(r"^ *(curl .*)$", self._output.read_text(), re.MULTILINE)
        assert found, self.output()
        return found[1]

    def _has_announced(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.output()
        return "Ctrl-C" in self._output.read_text()
