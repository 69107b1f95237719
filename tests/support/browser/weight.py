"""The cost of a page (server time, statements, bytes), and the table of all pages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Request

#: Output of a run: pictures, and the table of costs.
OUTPUT = ROOT / "test-output" / "pages"
MAX_KIB = 400.0
MAX_STATEMENTS = 12
#: Property of a test report with the cost of a page; it passes between processes.
PROPERTY = "page cost"
HEADER = f"{'page':<32}{'server ms':>10}{'statements':>12}{'KiB':>8}"


@dataclass(frozen=True, slots=True)
class PageCost:
    """The cost of one page; `None` if its response does not contain the value."""

    name: str
    kib: float
    server_ms: float | None
    statements: int | None

    @classmethod
    def of(cls, name: str, requests: list[Request]) -> PageCost:
        """Measure a page by its requests, starting with the document; the cache is off."""
        received = [r for r in requests if r.url.startswith("http") and r.response() is not None]
        sizes = [request.sizes() for request in received]
        size = sum(s["responseBodySize"] + s["responseHeadersSize"] for s in sizes)
        document = next(r.response() for r in received if r.redirected_to is None)
        timing = document.header_value("Server-Timing") if document else None
        return cls(name, size / 1024, *read_server_timing(timing or ""))

    def check(self) -> None:
        """Fail the test on a page with too many bytes or statements."""
        assert self.kib < MAX_KIB, f"{self.name}: {self.kib:.0f} KiB"
        if self.statements is not None:
            assert self.statements <= MAX_STATEMENTS, f"{self.name}: {self.statements} statements"

    def as_property(self) -> tuple[str, dict[str, Any]]:
        """Return name and value for pytest's `record_property`."""
        return PROPERTY, asdict(self)

    def __str__(self) -> str:
        server = "–" if self.server_ms is None else f"{self.server_ms:.1f}"
        statements = "–" if self.statements is None else str(self.statements)
        return f"{self.name:<32}{server:>10}{statements:>12}{self.kib:>8.1f}"


def read_server_timing(header: str) -> tuple[float | None, int | None]:
    """Read the milliseconds and the statements of `total;dur=8.1, db;dur=3;desc="7 statements"`."""
    total = re.search(r"\btotal;dur=([0-9.]+)", header)
    statements = re.search(r'\bdb;[^,]*desc="([0-9]+) statements?"', header)
    return float(total[1]) if total else None, int(statements[1]) if statements else None


def table_of(properties: Iterable[tuple[str, Any]]) -> str:
    """Return the table of the costs in the reports, or an empty text without any."""
    # A test has several reports with the same properties.
    costs = {value["name"]: PageCost(**value) for name, value in properties if name == PROPERTY}
    lines = [HEADER, *(str(costs[name]) for name in sorted(costs))]
    return "\n".join(lines) + "\n" if costs else ""
