"""Run the commands that install programs for the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

COMMAND_SECONDS = 600.0


def runs(command: Sequence[str], cwd: Path | None = None) -> bool:
    """Run a command to its end and return whether it succeeded; its errors go to stderr."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"not within {COMMAND_SECONDS:.0f} s: {' '.join(command)}", file=sys.stderr)
        return False
    return done.returncode == 0
