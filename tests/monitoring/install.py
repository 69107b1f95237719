"""Gets Prometheus, Alertmanager and exporters where they are missing: `make test` runs this first.

Debian's packages are unpacked into the cache, never installed: that needs no rights, and installing
them would start servers. Where that does not work it says what to do, and fails where `CI` is set:
there no test may be skipped in silence.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.monitoring.programs import CACHE, UNPACKED, missing, missing_packages

COMMAND_SECONDS = 600.0
#: Where Debian's Alertmanager looks for its templates; the unpacked one looks below the directory
#: that it runs in, in `.usr`.
TEMPLATES = b"/usr/share/prometheus/alertmanager"
# As root, apt would give up its rights and then not be allowed to write here.
APT = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", "-o", "APT::Sandbox::User=root")


def main() -> int:
    """Return 0 when the tests may run: with the programs, or outside of CI without."""
    if not missing_packages():
        return 0
    print("Getting Prometheus and Alertmanager for the tests ...", flush=True)
    if _can_unpack():
        _unpack(missing_packages())
    if not missing_packages():
        return 0
    print(missing(), file=sys.stderr)
    return 1 if os.environ.get("CI") else 0


def _can_unpack() -> bool:
    return shutil.which("apt-get") is not None and shutil.which("dpkg") is not None


def _unpack(packages: Sequence[str]) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=CACHE) as directory:
        download = (*APT, "download", *packages)
        if not _run(download, cwd=Path(directory)):
            # The lists of packages may be old or missing; only root can bring them up to date.
            if os.geteuid() != 0 or not _run((*APT, "update")):
                return
            if not _run(download, cwd=Path(directory)):
                return
        for package in Path(directory).glob("*.deb"):
            _run(("dpkg", "-x", str(package), str(UNPACKED)))
    if "prometheus-alertmanager" in packages:
        alertmanager = UNPACKED / "usr/bin/prometheus-alertmanager"
        text = alertmanager.read_bytes()
        alertmanager.write_bytes(text.replace(TEMPLATES, b"." + TEMPLATES[1:]))


def _run(command: Sequence[str], cwd: Path | None = None) -> bool:
    """Run a command to its end and say whether it worked; why not stands in its own words."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"not within {COMMAND_SECONDS:.0f} s: {' '.join(command)}", file=sys.stderr)
        return False
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
