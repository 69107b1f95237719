"""Gets Prometheus, Alertmanager and exporters where they are missing: `make test` runs this first.

Debian's packages are unpacked into the cache, never installed: that needs no rights, and installing
them would start servers. Where that does not work it says what to do, and fails where `CI` is set:
there no test may be skipped in silence.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.commands import runs
from tests.support.monitoring.programs import CACHE, UNPACKED, missing, missing_packages

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
        if not runs(download, cwd=Path(directory)):
            # The lists of packages may be old or missing; only root can bring them up to date.
            if os.geteuid() != 0 or not runs((*APT, "update")):
                return
            if not runs(download, cwd=Path(directory)):
                return
        for package in Path(directory).glob("*.deb"):
            runs(("dpkg", "-x", str(package), str(UNPACKED)))
    if "prometheus-alertmanager" in packages:
        alertmanager = UNPACKED / "usr/bin/prometheus-alertmanager"
        text = alertmanager.read_bytes()
        alertmanager.write_bytes(text.replace(TEMPLATES, b"." + TEMPLATES[1:]))


if __name__ == "__main__":
    sys.exit(main())
