"""Where programs of Debian's for the tests are; `tests/tools/install_monitoring.py` gets them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support.paths import ROOT

CACHE = ROOT / ".cache" / "monitoring"
#: Where Debian's packages are unpacked.
UNPACKED = CACHE / "debian"
#: Each program that tests run, by its own name: Debian's package and its name there.
PROGRAMS = {
    "prometheus": ("prometheus", "prometheus"),
    "promtool": ("prometheus", "promtool"),
    "alertmanager": ("prometheus-alertmanager", "prometheus-alertmanager"),
    "amtool": ("prometheus-alertmanager", "amtool"),
    "node_exporter": ("prometheus-node-exporter", "prometheus-node-exporter"),
    "postgres_exporter": ("prometheus-postgres-exporter", "prometheus-postgres-exporter"),
    "redis_exporter": ("prometheus-redis-exporter", "prometheus-redis-exporter"),
    "blackbox_exporter": ("prometheus-blackbox-exporter", "prometheus-blackbox-exporter"),
    "nginx": ("nginx", "nginx"),
    "nginx_exporter": ("prometheus-nginx-exporter", "prometheus-nginx-exporter"),
    "pgbouncer": ("pgbouncer", "pgbouncer"),
}
#: Packages that a package needs and that may be missing here, for `library_path`.
LIBRARIES = {"pgbouncer": ("libc-ares2", "libevent-2.1-7")}


def find_program(name: str) -> Path | None:
    """Return a program of this machine, or the one that was unpacked."""
    debian = PROGRAMS[name][1]
    for wanted in (name, debian):
        if (found := shutil.which(wanted)) is not None:
            return Path(found)
    return next(iter(UNPACKED.glob(f"usr/*bin/{debian}")), None)


def missing_packages() -> list[str]:
    """Return Debian's packages of the programs that are not here."""
    packages = {PROGRAMS[name][0] for name in PROGRAMS if find_program(name) is None}
    libraries = {library for package in packages for library in LIBRARIES.get(package, ())}
    return sorted(packages | libraries)


def missing() -> str:
    """Return what to do about missing programs."""
    return (
        "programs of these tests are missing: unpack Debian's packages "
        f"{' '.join(missing_packages())} into {UNPACKED}, or put these programs on the PATH: "
        f"{', '.join(name for name in PROGRAMS if find_program(name) is None)}"
    )


def library_path() -> str:
    """Return the `LD_LIBRARY_PATH` of the programs that were unpacked."""
    return os.pathsep.join(map(str, UNPACKED.glob("usr/lib/*-linux-gnu*")))


def program(name: str) -> str:
    """Return a program's path; without it the test is skipped, and fails where `CI` is set."""
    found = find_program(name)
    if found is not None:
        return str(found)
    if os.environ.get("CI"):
        pytest.fail(missing())
    pytest.skip(missing())
