"""The programs that check the files of docker/: packages of the extra `dev`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.paths import ROOT

DOCKER = ROOT / "docker"
TIMEOUT_SECONDS = 60.0


def tool(name: str) -> str:
    """Return the path of a program beside this Python."""
    return str(Path(sys.executable).with_name(name))


def run(
    name: str, *arguments: str | Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program from the root of the repository, with only the given environment."""
    return subprocess.run(
        [tool(name), *map(str, arguments)],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )


PRODUCTION = {
    "API_HOSTNAME": "api.example.com",
    "ADMIN_HOSTNAME": "admin.example.com",
    "TLS_DIRECTORY": "/etc/tls",
}
