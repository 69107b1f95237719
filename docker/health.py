#!/usr/bin/env python3
"""Whether a container is well: `healthy URL [LINE]` asks its program, and perhaps for one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from urllib.request import urlopen

TIMEOUT_SECONDS = 4.0
MAX_BYTES = 4 * 1024**2


def main(arguments: Sequence[str]) -> int:
    """Return 0 if the address answers with 200, and with the line where one is wanted."""
    url, *lines = arguments
    try:
        with urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - the URL is of our own files
            said = answer.read(MAX_BYTES).decode(errors="replace").splitlines()
    except (OSError, ValueError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1
    missing = [line for line in lines if line not in said]
    if missing:
        print(f"{url}: no line {missing[0]!r}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
