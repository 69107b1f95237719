"""Finds the browser of the tests; `tests/tools/install_browser.py` installs one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import ROOT

CACHE = ROOT / ".cache" / "browser"
#: Script that starts the browser in the cache with the libraries beside it.
UNPACKED = CACHE / "chromium"
#: Directories of Playwright's browsers: ours, then the shared one of the user.
PLAYWRIGHT_STORES = (CACHE / "playwright", Path("~/.cache/ms-playwright").expanduser())
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VERSION_SECONDS = 60.0
MISSING = (
    "no browser for the tests of pages: install Chromium (on Debian, apt install chromium), "
    "or name one in BROWSER_BIN"
)


def find_browser() -> Path | None:
    """Return the first Chromium or Chrome that starts; `BROWSER_BIN` allows only that one."""
    return next(filter(starts, _candidates()), None)


def starts(program: Path) -> bool:
    """Return whether a browser prints its version: one without a library cannot."""
    try:
        result = subprocess.run(
            [program, "--version"], capture_output=True, timeout=VERSION_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return result.returncode == 0


def _candidates() -> Iterator[Path]:
    named = os.environ.get("BROWSER_BIN")
    if named:
        yield Path(named)
        return
    yield from (Path(found) for name in NAMES if (found := shutil.which(name)))
    yield UNPACKED
    for store in PLAYWRIGHT_STORES:
        yield from sorted(store.glob("chromium-*/chrome-linux*/chrome"), reverse=True)
