"""Installs Prometheus, Alertmanager and exporters for the tests. `make test` runs this first.

It unpacks Debian's packages into the cache: this does not need root, and an installation would
start servers. If it fails, it prints what to do. With `CI` set it also fails, since no test may be
skipped silently there.
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

#: The templates of Debian's Alertmanager. The unpacked one reads them from `.usr` below its working
#: directory.
TEMPLATES = b"/usr/share/prometheus/alertmanager"
# As root, apt would drop its privileges, and then could not write here.
APT = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", "-o", "APT::Sandbox::User=root")


def main() -> int:
    """Return 0 if the tests may run: with the programs, or without them outside of CI."""
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
            # The package lists may be old or missing. Only root can update them.
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
