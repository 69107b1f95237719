"""Runs the JavaScript clients of this folder with Node.js."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CLIENTS = Path(__file__).parent
MODULES = CLIENTS / "node_modules"
RUN_SECONDS = 180.0


def run_node(program: Path, *arguments: str, **environment: str) -> str:
    """Run a program in any directory with the packages of this folder, and return its output.

    A machine without Node.js skips the test.
    """
    node = shutil.which("node")
    if node is None:
        pytest.skip("install Node.js 20 or newer: on Debian, apt install nodejs npm")
    if not MODULES.is_dir():
        pytest.fail("the clients for Node.js are not installed: run `npm ci` in tests/clients")
    done = subprocess.run(
        [node, str(program), *arguments],
        env={"PATH": os.environ["PATH"], "NODE_PATH": str(MODULES), **environment},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
