"""The code of the last release, unpacked for tests that run it beside this one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

CACHE = ROOT / ".cache" / "releases"
COMMAND_SECONDS = 60.0
VERSION = "0.1.0"
#: The commit of the release, and its schema.
COMMIT = "7ae5caf0d77e55f17ae5c2fe5878bf5eb72a33e0"  # pragma: allowlist secret
SCHEMA = "0006"


def last_release() -> Path:
    """Return a directory with its code; skip the test in a checkout without the history."""
    directory = CACHE / VERSION
    if not directory.exists():
        _unpack(directory)
    return directory


def _unpack(directory: Path) -> None:
    beside = directory.with_name(f"{VERSION}.new")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    archive = subprocess.run(
        ["git", "archive", "--format=tar", COMMIT],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=COMMAND_SECONDS,
    )
    if archive.returncode != 0:
        pytest.skip(f"the history does not reach back to the release {VERSION} ({COMMIT[:12]})")
    subprocess.run(
        ["tar", "-x", "-C", str(beside)], input=archive.stdout, check=True, timeout=COMMAND_SECONDS
    )
    beside.replace(directory)
