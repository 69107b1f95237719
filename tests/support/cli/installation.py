"""`bountycoder up` on a data directory, as a user starts, reads and kills it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from cli.system.ports import free_port
from tests.support.polling import wait_until
from tests.support.processes import CLI, end, start, with_descendants
from tests.support.small_model import MODEL_STORE

READY_SECONDS = 120.0
STOP_SECONDS = 60.0


def shell_environment(**changes: str) -> dict[str, str]:
    """Return the environment of this process, with the model that the tests share."""
    return {**os.environ, "MODEL_STORE": str(MODEL_STORE), **changes}


@dataclass
class Installation:
    """A data directory, and the `up` that serves it from time to time.

    Attributes:
        options: of `up`, beside the data directory and the ports.
        program: the command that is `bountycoder`.
        starts: how often `up` was started; each start has its own output file.
    """

    data_dir: Path
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=shell_environment)
    program: tuple[str, ...] = CLI
    api_port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    @contextmanager
    def up(self) -> Iterator[Installation]:
        """Run it until the block ends."""
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def start(self) -> None:
        """Start `up` and wait until it announces that all parts serve."""
        self.spawn()
        wait_until(self._has_announced, READY_SECONDS, self.output)

    def spawn(self) -> None:
        """Start `up` without waiting for it."""
        self.starts += 1
        ports = ("--api-port", str(self.api_port), "--admin-port", str(self.admin_port))
        self.process = start(
            [*self.program, "up", "--data-dir", str(self.data_dir), *ports, *self.options],
            log=self._announcement,
            environment=self.environment,
            own_session=True,
        )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End `up` by a signal and return its exit code."""
        assert self.process is not None
        return end(self.process, number, STOP_SECONDS)

    def processes(self) -> set[psutil.Process]:
        """Return every process of this installation."""
        assert self.process is not None
        return with_descendants([self.process.pid, *self.run_file()["pids"].values()])

    def run_file(self) -> dict[str, Any]:
        """Return the addresses, passwords and process ids that `up` writes down."""
        return dict(json.loads((self.data_dir / "run.json").read_text()))

    def output(self) -> str:
        logs = [path.read_text() for path in sorted(self.data_dir.glob("logs/*.log"))]
        return "\n".join([self._announcement.read_text(), *logs])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def database_url(self) -> str:
        return str(self.run_file()["environment"]["DATABASE_URL"])

    @property
    def key(self) -> str:
        return self._announced(r"bc_[0-9a-z]{12}_[\w-]{43}")

    @property
    def curl(self) -> str:
        """Return the command that `up` prints for pasting."""
        return self._announced(r"curl -s .*")

    @property
    def _announcement(self) -> Path:
        return self.data_dir.with_name(f"{self.data_dir.name}-{self.starts}.out")

    def _announced(self, pattern: str) -> str:
        found = re.search(pattern, self._announcement.read_text())
        assert found, self.output()
        return found[0]

    def _has_announced(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.output()
        return "Ctrl-C" in self._announcement.read_text()
