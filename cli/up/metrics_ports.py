"""The ports on which the programs of one instance serve metrics, and Prometheus' target list."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.system.ports import free_port
from cli.up.readiness import local_url
from core.text.integers import bounded_integer


@dataclass(frozen=True, slots=True)
class MetricsPorts:
    """One port for each program; 0 serves no metrics."""

    api: int
    admin: int
    workers: tuple[int, ...]

    @classmethod
    def choose(cls, environment: Mapping[str, str], *, workers: int) -> MetricsPorts:
        """Use the ports of the environment, else free ones; workers use consecutive ports."""

        def configured(program: str) -> int | None:
            return bounded_integer(environment.get(f"{program}_METRICS_PORT", ""))

        first = configured("WORKER")
        if first:
            numbers = tuple(range(first, first + workers))
        else:
            numbers = tuple(0 if first == 0 else free_port() for _ in range(workers))
        api, admin = configured("API"), configured("ADMIN")
        return cls(
            api=free_port() if api is None else api,
            admin=free_port() if admin is None else admin,
            workers=numbers,
        )

    def by_program(self) -> dict[str, int]:
        """Return the ports in use, by the programs' names in `run.json`."""
        workers = {f"worker-{n}": port for n, port in enumerate(self.workers, start=1)}
        named = {"api": self.api, "admin": self.admin, **workers}
        return {name: port for name, port in named.items() if port}

    def settings(self, directory: Path) -> dict[str, str]:
        """Return the environment variables of all programs; each worker also gets its own port."""
        return {
            "API_METRICS_PORT": str(self.api),
            "ADMIN_METRICS_PORT": str(self.admin),
            "METRICS_DIR": str(directory),
        }

    def write_targets(self, directory: Path, host: str) -> Path:
        """Empty the directory of counters and write a target list into it.

        Returns the list's path, for Prometheus' `file_sd_configs`.
        """
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700)
        targets = [
            {
                "targets": [local_url(host, port).removeprefix("http://")],
                "labels": {"job": f"bountycoder-{name.partition('-')[0]}", "instance": name},
            }
            for name, port in self.by_program().items()
        ]
        file = directory / "targets.json"
        file.write_text(json.dumps(targets, indent=2) + "\n")
        return file
