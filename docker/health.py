#!/usr/bin/env python3
"""Check a container's health: `health.py URL [LINE]` requests the URL and looks for the line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from urllib.request import urlopen

TIMEOUT_SECONDS = 4.0
MAX_BYTES = 4 * 1024**2


def main(arguments: Sequence[str]) -> int:
    """Return 0 if the URL responds with 200, and with the line if one is given."""
    url, *lines = arguments
    try:
        with urlopen(url, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310 - a URL of our own files
            found = response.read(MAX_BYTES).decode(errors="replace").splitlines()
    except (OSError, ValueError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1
    missing = [line for line in lines if line not in found]
    if missing:
        print(f"{url}: no line {missing[0]!r}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
