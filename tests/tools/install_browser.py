"""Installs a browser for the tests if there is none. `make system-test` runs this before the tests.

It tries Debian's package, which it installs as root or else unpacks into the cache, and then
Playwright's download. If neither works, it prints what to install. With `CI` set it also fails,
since no test may be skipped silently there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.browser.chromium import CACHE, MISSING, PLAYWRIGHT_STORES, UNPACKED, find_browser
from tests.support.commands import COMMAND_SECONDS, runs

PACKAGE = "chromium"
APT = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", "--no-install-recommends")
#: Libraries are in the directory of the machine's architecture, some in a directory below it.
LAUNCHER = """#!/bin/sh
here=$(dirname "$(readlink -f "$0")")/debian
for directory in "$here"/usr/lib/*-linux-gnu* "$here"/usr/lib/*-linux-gnu*/*/; do
    LD_LIBRARY_PATH=$LD_LIBRARY_PATH${LD_LIBRARY_PATH:+:}$directory
done
export LD_LIBRARY_PATH
exec "$here/usr/lib/chromium/chromium" "$@"
"""


def main() -> int:
    """Return 0 if the tests may run: with a browser, or without one outside of CI."""
    if find_browser() is not None:
        return 0
    named = os.environ.get("BROWSER_BIN")
    for way in () if named else (_install_package, _unpack_packages, _download_with_playwright):
        if way() and find_browser() is not None:
            return 0
    print(f"BROWSER_BIN does not start: {named}" if named else MISSING, file=sys.stderr)
    return 1 if os.environ.get("CI") else 0


def _install_package() -> bool:
    """Install Debian's package as root; update the package lists only if needed."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    _print_progress("installing Debian's chromium")
    install = (*APT, "install", "-y", PACKAGE)
    return runs(install) or (runs((*APT, "update")) and runs(install))


def _unpack_packages() -> bool:
    """Unpack Debian's package and the missing libraries; this does not need root."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        return False
    _print_progress("unpacking Debian's chromium into .cache/browser")
    names = _packages_to_install()
    CACHE.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=CACHE) as directory:
        unpacked = Path(directory) / "debian"
        if not names or not runs((*APT, "download", *names), cwd=Path(directory)):
            return False
        for package in Path(directory).glob("*.deb"):
            if not runs(("dpkg", "-x", str(package), str(unpacked))):
                return False
        shutil.rmtree(CACHE / "debian", ignore_errors=True)
        unpacked.rename(CACHE / "debian")
    UNPACKED.write_text(LAUNCHER)
    UNPACKED.chmod(0o755)
    return True


def _packages_to_install() -> list[str]:
    """Return the packages that apt would install; a simulation does not need root."""
    simulated = subprocess.run(
        (*APT, "--simulate", "install", PACKAGE),
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    return [line.split()[1] for line in simulated.stdout.splitlines() if line.startswith("Inst ")]


def _download_with_playwright() -> bool:
    _print_progress("downloading Playwright's")
    os.environ["PLAYWRIGHT_BROWSERS_PATH"] = str(PLAYWRIGHT_STORES[0])
    return runs((sys.executable, "-m", "playwright", "install", "--no-shell", "chromium"))


def _print_progress(what: str) -> None:
    print(f"Getting a browser for the tests: {what} ...", flush=True)


if __name__ == "__main__":
    sys.exit(main())
