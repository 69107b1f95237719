"""The evaluation of a report of pip-audit."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tools.audit import ACCEPTED, NOT_AUDITED, WEAK, evaluate

GOOD = {"name": "redis", "version": "8.1.0", "vulns": []}
BAD = {
    "name": "Jinja2",
    "version": "2.10",
    "vulns": [
        {"id": "PYSEC-2019-217", "fix_versions": ["2.10.1"], "aliases": [], "description": ""}
    ],
}
SKIPPED = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}


def report(*packages: dict[str, Any]) -> dict[str, Any]:
    return {"dependencies": list(packages), "fixes": []}


@pytest.mark.parametrize(
    ("given", "code", "text"),
    [
        (report(GOOD), 0, "1 packages, no known weakness"),
        (report(GOOD, BAD), WEAK, "jinja2 2.10 has PYSEC-2019-217, mended in 2.10.1"),
        (report(GOOD, SKIPPED), NOT_AUDITED, "NOT AUDITED, 1 of 2: torch"),
        (report(BAD, SKIPPED), WEAK, "jinja2 2.10 has PYSEC-2019-217"),
        ({"error": "no connection"}, NOT_AUDITED, "NOT AUDITED, pip-audit failed: no connection"),
    ],
)
def test_a_report_is_judged(given: dict[str, Any], code: int, text: str) -> None:
    found, lines = evaluate("api.txt", given)

    assert found == code
    assert any(line.startswith("api.txt: ") and text in line for line in lines)


def test_an_accepted_vulnerability_is_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ACCEPTED, "PYSEC-2019-217", "we render no untrusted template")

    assert evaluate("api.txt", report(BAD))[0] == 0
