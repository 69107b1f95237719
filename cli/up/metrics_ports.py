"""The ports on which the programs of one instance show their metrics, and who is told of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.system.ports import free_port
from cli.up.readiness import local_url


@dataclass(frozen=True, slots=True)
class MetricsPorts:
    """One port for each program; 0 shows none."""

    api: int
    admin: int
    workers: tuple[int, ...]

    @classmethod
    def choose(cls, environment: Mapping[str, str], *, workers: int) -> MetricsPorts:
        """Take the ports that were given, the workers' one after the other, and free ones else."""

        def given(program: str) -> int | None:
            said = environment.get(f"{program}_METRICS_PORT", "")
            return int(said) if said.isdigit() else None

        first = given("WORKER")
        if first:
            numbers = tuple(range(first, first + workers))
        else:
            numbers = tuple(0 if first == 0 else free_port() for _ in range(workers))
        api, admin = given("API"), given("ADMIN")
        return cls(
            api=free_port() if api is None else api,
            admin=free_port() if admin is None else admin,
            workers=numbers,
        )

    def by_program(self) -> dict[str, int]:
        """Return the ports that show something, by the names that programs have in `run.json`."""
        workers = {f"worker-{n}": port for n, port in enumerate(self.workers, start=1)}
        named = {"api": self.api, "admin": self.admin, **workers}
        return {name: port for name, port in named.items() if port}

    def settings(self, directory: Path) -> dict[str, str]:
        """Return what all programs are told; each worker learns its own port besides."""
        return {
            "API_METRICS_PORT": str(self.api),
            "ADMIN_METRICS_PORT": str(self.admin),
            "METRICS_DIR": str(directory),
        }

    def announce(self, directory: Path, host: str) -> Path:
        """Begin a new directory for counters, and write where Prometheus finds the programs.

        Returns the file: a target list for Prometheus' `file_sd_configs`.
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
