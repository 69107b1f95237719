"""The modules of the product."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import ROOT

PACKAGES = ("api", "worker", "admin_ui", "models", "core", "cli", "migrations")


def modules() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))
