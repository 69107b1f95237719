"""The rules of the house, read from the imports themselves."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGES = ("api", "worker", "admin_ui", "models", "core", "cli", "migrations")

#: What each package may import of ours, beside itself.
MAY_IMPORT = {
    "core": set(),
    "models": {"core"},
    "migrations": {"models", "core"},
    "api": {"models", "core"},
    "worker": {"models", "core"},
    "admin_ui": {"models", "core"},
    "cli": {"api", "worker", "admin_ui", "models", "migrations", "core"},
}

#: Libraries that only some places may import.
ONLY_IN = {
    "flask": ("api/", "admin_ui/"),
    "torch": ("worker/engine/hf/",),
    "transformers": ("worker/engine/hf/",),
    "dramatiq": ("core/queueing/broker.py", "worker/"),
    "sqlalchemy": ("models/", "migrations/"),
    "urllib3": ("worker/webhooks/client.py", "cli/batch/client.py", "admin_ui/api_client.py"),
    "prometheus_client": ("core/observability/metric", "api/", "worker/", "admin_ui/"),
    "opentelemetry": (
        "core/observability/tracing.py",
        "api/runtime/tracing.py",
        "worker/observability/tracing.py",
    ),
}

#: What reads the clock of its own machine, and modules that may: for spans of time, and for a date
#: that the database replaces.
OWN_CLOCK = re.compile(r"\butc_now\(|\bdatetime\.(now|utcnow)\(|\btime\.time\(")
OWN_CLOCK_MODULES = {
    "api/generation/admission.py",
    "models/database/base.py",
    "worker/observability/tracing.py",
}


def modules() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_down_only(package: str) -> None:
    forbidden = set(PACKAGES) - MAY_IMPORT[package] - {package}

    faults = {
        str(path.relative_to(ROOT)): sorted(bad)
        for path in (ROOT / package).rglob("*.py")
        if (bad := imported(path) & forbidden)
    }

    assert faults == {}


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_imported_only_in_its_place(library: str) -> None:
    places = ONLY_IN[library]

    strangers = [
        where
        for path in modules()
        if library in imported(path)
        and not (where := str(path.relative_to(ROOT))).startswith(places)
    ]

    assert strangers == []


@pytest.mark.parametrize("package", ["models", "api", "worker", "admin_ui"])
def test_times_are_those_of_the_database(package: str) -> None:
    """A machine's clock may be hours off: what is kept, or compared with it, is not dated by it."""
    strangers = {
        str(path.relative_to(ROOT))
        for path in (ROOT / package).rglob("*.py")
        if OWN_CLOCK.search(path.read_text())
    }

    assert strangers <= OWN_CLOCK_MODULES


def test_importing_every_light_module_reads_no_environment_and_opens_nothing() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in modules()
        if "migrations/env" not in str(path)
        and not str(path).startswith(str(ROOT / "worker/engine/hf"))
    ]
    program = (
        "import sys, os, socket, importlib\n"
        "def audit(event, args):\n"
        "    if event in ('socket.connect', 'subprocess.Popen', 'os.fork'):\n"
        "        raise RuntimeError(event)\n"
        "sys.addaudithook(audit)\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
        # The client of Redis imports the SDK where it is installed; what sends spans is ours alone.
        "assert 'opentelemetry.exporter' not in sys.modules, 'opentelemetry was imported'\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
