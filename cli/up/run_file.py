"""The file with the addresses and passwords of the running instance, for other programs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from cli.system.private_files import write_private
from cli.up.readiness import local_url
from core.config.settings import Settings


def write_run_file(
    path: Path,
    *,
    is_ready: bool,
    settings: Settings,
    server_ports: Mapping[str, int],
    metrics_ports: Mapping[str, int],
    pids: Mapping[str, int],
) -> None:
    """Write addresses, process ids and the programs' environment, with its passwords."""
    running = {
        "ready": is_ready,
        "api_url": local_url(settings.api_host, settings.api_port),
        "admin_url": local_url(settings.admin_host, settings.admin_port),
        "ports": {"api": settings.api_port, "admin": settings.admin_port, **server_ports},
        "metrics_ports": dict(metrics_ports),
        "pids": {"up": os.getpid(), **pids},
        "environment": settings.to_environment(),
    }
    write_private(path, json.dumps(running, indent=2) + "\n")
