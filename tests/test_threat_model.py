"""Every guard and test that docs/security.md names exists."""

from __future__ import annotations

import ast
import re

from tests.support.paths import ROOT

ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (ROOT / "docs" / "security.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith(("| threat", "| ---"))
]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def functions_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_threat_has_a_guard_and_a_test_that_are_there() -> None:
    assert len(ROWS) > 30
    for threat, guard, tests in ROWS:
        guards = [name for name in names(guard) if not (ROOT / name).exists()]
        assert guards == [], threat
        assert names(tests), threat
        for name in names(tests):
            file, _, test = name.partition("::")
            assert (ROOT / file).is_file(), name
            assert test.startswith("test_") and test in functions_in(file), name
