"""The command `bountycoder batch` in this process, against a service of a test."""

from __future__ import annotations

from pathlib import Path

from cli.main import main
from tests.support.http.failing_service import FailingService

KEY = "bc_abc_a-secret-key"


def run(service: FailingService, *arguments: str | Path) -> int:
    action, *rest = map(str, arguments)
    return main(["batch", action, "--url", service.url, *rest])
