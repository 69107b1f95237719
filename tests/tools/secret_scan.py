"""Searches all files of the repository for secrets; part of `make check`.

The patterns are those of detect-secrets and of this service's keys. An intended example in a test
or a document has `pragma: allowlist secret` on its line.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from os.path import relpath
from pathlib import Path
from typing import Any

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

from tests.support.paths import ROOT

ALLOWED_HERE = "pragma: allowlist secret"
#: Files of hashes, and files of others.
LEFT_OUT = re.compile(r"docker/requirements/.*\.txt|.*/package-lock\.json|.*/static/.*")
#: The first reports every word beside `password` (in Python, ruff's S105 checks that), the second
#: every public IP address.
NOT_USED = {"KeywordDetector", "IPPublicDetector"}
#: Passwords in URLs of examples.
NO_PASSWORDS = {"password", "secret", "p", "…", "80"}

_OUR_SECRETS = re.compile(r"\bbc_[0-9a-z]{12}_[0-9A-Za-z_-]{43}|\bwhsec_[0-9A-Za-z+/]{32,}")


def findings(text: str) -> Iterator[tuple[int, str]]:
    """Yield the number of each line that has a secret, and its kind."""
    for number, line in enumerate(text.splitlines(), 1):
        if ALLOWED_HERE in line:
            continue
        if _OUR_SECRETS.search(line):
            yield number, "BountyCoder secret"
        for plugin in _PLUGINS:
            for found in plugin.analyze_line(filename="", line=line, line_number=number):
                if not _is_example(found):
                    yield number, found.type


def scanned_files() -> list[Path]:
    """Return the repository's files, also those that are not committed yet."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=30)
    names = [name for name in done.stdout.decode().split("\0") if name]
    return [ROOT / name for name in names if not LEFT_OUT.fullmatch(name)]


def main(files: Iterable[Path]) -> int:
    """Print the findings; return the number of scanned files, or exit with 1."""
    scanned, has_found = 0, False
    for file in files:
        try:
            text = file.read_text()
        except (UnicodeDecodeError, FileNotFoundError):  # a picture; deleted, not yet committed
            continue
        scanned += 1
        for number, kind in findings(text):
            has_found = True
            print(f"{relpath(file, ROOT)}:{number}: {kind}", file=sys.stderr)
    if has_found:
        raise SystemExit(1)
    return scanned


def _is_example(found: Any) -> bool:
    value = str(found.secret_value)
    return found.type == "Basic Auth Credentials" and (
        value.lower() in NO_PASSWORDS or "{" in value
    )


_PLUGINS: list[Any] = [
    kind()
    for kind in get_mapping_from_secret_type_to_class().values()
    if kind.__name__ not in NOT_USED
]


if __name__ == "__main__":
    print(f"No secrets in {main(scanned_files())} files.")
