"""The rules of the house that .importlinter has no words for."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support.modules import PACKAGES, modules
from tests.support.paths import ROOT

MOST_MODULES = 15
MOST_LINES = 300

#: Calls that read the machine's clock, and modules that may: for spans of time, and for a date that
#: the database replaces.
OWN_CLOCK = re.compile(r"\butc_now\(|\bdatetime\.(now|utcnow)\(|\btime\.time\(")
OWN_CLOCK_MODULES = {
    "api/generation/admission.py",
    "models/database/base.py",
    "worker/observability/tracing.py",
}


@pytest.mark.parametrize("package", ["models", "api", "worker", "admin_ui"])
def test_times_are_those_of_the_database(package: str) -> None:
    """A machine's clock may be hours off: it dates nothing that is stored or compared."""
    undeclared = {
        str(path.relative_to(ROOT))
        for path in (ROOT / package).rglob("*.py")
        if OWN_CLOCK.search(path.read_text())
    }

    assert undeclared <= OWN_CLOCK_MODULES


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


def all_modules() -> list[Path]:
    """Return our modules, those of the tests too; `node_modules` has others' Python files."""
    tests = (ROOT / "tests").rglob("*.py")
    return [*modules(), *(path for path in tests if "node_modules" not in path.parts)]


def test_a_folder_has_at_most_fifteen_modules() -> None:
    sizes = Counter(path.parent for path in all_modules() if path.name != "__init__.py")
    del sizes[ROOT / "migrations" / "versions"]

    assert {str(f.relative_to(ROOT)): n for f, n in sizes.items() if n > MOST_MODULES} == {}


def test_a_module_has_at_most_three_hundred_lines() -> None:
    """A longer one holds a second noun. The settings are one table."""
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in all_modules()
    }
    del lengths["core/config/settings.py"]

    assert {name: n for name, n in lengths.items() if n > MOST_LINES} == {}


def test_the_map_names_every_subpackage_and_nothing_else() -> None:
    named = re.findall(r"`([\w/]+(?:/|\.py))`", (ROOT / "CONTRIBUTING.md").read_text())

    packages = {path.parent for name in PACKAGES for path in (ROOT / name).glob("*/__init__.py")}

    assert [name for name in named if not (ROOT / name).exists()] == []
    assert {f"{path.relative_to(ROOT)}/" for path in packages} <= set(named)


def test_no_test_module_imports_another() -> None:
    """What two of them need stands in tests/support."""
    test_module = re.compile(r"(tests)?\.(.*\.)?test_")  # a relative import begins with dots
    found = {
        str(path.relative_to(ROOT)): names
        for path in all_modules()
        if path.name.startswith("test_")
        and (names := [name for name in imports_of(path) if test_module.match(name)])
    }

    assert found == {}


def imports_of(path: Path) -> list[str]:
    """Return the names that a module imports, each with its package: `tests.a.b`, `..a.b`."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = "." * node.level + (node.module or "")
            names += [f"{package}.{alias.name}" for alias in node.names]
    return names
