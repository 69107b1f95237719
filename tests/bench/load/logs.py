"""Warnings and errors in the logs of a service after a load."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path


def complaints(directory: Path) -> dict[str, int]:
    """Return each message above INFO, and how often it was logged."""
    counts: Counter[str] = Counter()
    for path in directory.glob("*.log"):
        if path.name.startswith(("api", "worker")):
            for line in path.read_text(errors="replace").splitlines():
                if message := _complaint(line):
                    counts[f"{path.name.partition('-')[0]}: {message}"] += 1
    return dict(counts.most_common(20))


def _complaint(line: str) -> str | None:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return line[:100] or None
    if entry.get("level") in ("DEBUG", "INFO"):
        return None
    return str(entry.get("message"))[:100]
