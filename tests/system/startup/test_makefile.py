"""What a newcomer's first `make run` does where Debian's package python3-venv is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT

MAKE_SECONDS = 120
#: Ends as Debian's Python does without the package: a Python is there by then, and no pip.
WITHOUT_PIP = """#!/bin/sh
if [ "$1 $2" = "-m venv" ]; then
    {python} -m venv --without-pip "$3"
    exit 1
fi
exec {python} "$@"
"""


def make_venv(venv: Path, python: Path | str) -> subprocess.CompletedProcess[str]:
    """Let make bring the environment that all its targets need."""
    return subprocess.run(
        ["make", f"VENV={venv}", f"PYTHON={python}", f"{venv}/bin/pip"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=MAKE_SECONDS,
    )


def test_a_second_try_works_after_the_missing_package_was_installed(tmp_path: Path) -> None:
    venv, broken = tmp_path / ".venv", tmp_path / "python3"
    broken.write_text(WITHOUT_PIP.format(python=sys.executable))
    broken.chmod(0o755)

    first = make_venv(venv, broken)
    second = make_venv(venv, sys.executable)

    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    assert first.returncode != 0
    assert f"apt install {package}" in first.stderr
    assert (venv / "bin" / "python").exists()
    assert second.returncode == 0, second.stderr
    said = subprocess.run([venv / "bin" / "python", "-m", "pip", "--version"], timeout=60)
    assert said.returncode == 0
