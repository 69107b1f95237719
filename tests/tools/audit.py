"""Find known vulnerabilities of the images' packages: `make audit`.

pip-audit queries PyPI for each package of the locks in docker/requirements. It also succeeds
if the index does not know a version, which is so for a mirror of files. So this program reads the
report, and fails for packages that were not audited as well as for vulnerable ones.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from tests.support.paths import ROOT

LOCKS = ROOT / "docker" / "requirements"
#: Accepted vulnerabilities by id, each with the reason why it is harmless here.
ACCEPTED: dict[str, str] = {}

WEAK, NOT_AUDITED = 1, 2
LOCK_SECONDS = 600.0

_PIP_AUDIT = (
    *(sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes"),
    *("--progress-spinner", "off", "--format", "json"),
)


def audited(lock: Path, options: Sequence[str] = ()) -> dict[str, Any]:
    """Return pip-audit's report of a lock, or one with `error` if pip-audit failed."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [*_PIP_AUDIT, "--requirement", str(lock), "--output", report.name, *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LOCK_SECONDS)
        try:
            return dict(json.loads(Path(report.name).read_text()))
        except ValueError:
            return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1]}


def evaluate(lock: str, report: dict[str, Any]) -> tuple[int, list[str]]:
    """Return the exit code of a report, and the lines to print."""
    if "error" in report:
        return NOT_AUDITED, [f"{lock}: NOT AUDITED, pip-audit failed: {report['error']}"]
    packages = {canonicalize_name(one["name"]): one for one in report["dependencies"]}
    skipped = sorted(name for name, one in packages.items() if "skip_reason" in one)
    weak = [
        f"{lock}: {name} {one['version']} has {found['id']}, mended in "
        f"{', '.join(found['fix_versions']) or 'no version'}"
        for name, one in sorted(packages.items())
        for found in one.get("vulns", ())
        if found["id"] not in ACCEPTED
    ]
    lines = list(weak)
    if skipped:
        names = ", ".join(skipped)
        lines.append(f"{lock}: NOT AUDITED, {len(skipped)} of {len(packages)}: {names}")
    if not lines:
        lines = [f"{lock}: {len(packages)} packages, no known weakness"]
    return WEAK if weak else NOT_AUDITED if skipped else 0, lines


def main(options: Sequence[str] = ()) -> int:
    """Audit every lock. Returns 0 without findings, else `WEAK` or `NOT_AUDITED`."""
    codes = set()
    for lock in sorted(LOCKS.glob("*.txt")):
        code, lines = evaluate(lock.name, audited(lock, options))
        codes.add(code)
        print("\n".join(lines), flush=True)
    if NOT_AUDITED in codes:
        print("Packages that were not audited may be vulnerable: repeat with access to pypi.org.")
    return WEAK if WEAK in codes else max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
