"""The cost of a page: reading it from a response, its limits, its table."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from tests.support.browser.weight import HEADER, PROPERTY, PageCost, read_server_timing, table_of

LIGHT = PageCost("keys", kib=120.5, server_ms=8.25, statements=7)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('total;dur=8.1, db;dur=3.0;desc="7 statements"', (8.1, 7)),
        ('db;dur=3;desc="1 statement", total;dur=12', (12.0, 1)),
        ("total;dur=8.1", (8.1, None)),
        ("", (None, None)),
    ],
)
def test_the_header_has_the_time_and_the_statements(
    header: str, expected: tuple[float | None, int | None]
) -> None:
    assert read_server_timing(header) == expected


def test_a_page_within_the_limits_passes() -> None:
    LIGHT.check()
    replace(LIGHT, server_ms=None, statements=None).check()
    replace(LIGHT, kib=399.9, statements=12).check()


@pytest.mark.parametrize("more", [{"kib": 400.0}, {"statements": 13}])
def test_a_page_beyond_a_limit_fails(more: dict[str, float]) -> None:
    with pytest.raises(AssertionError, match="keys"):
        replace(LIGHT, **more).check()


def test_the_table_has_one_line_for_each_page() -> None:
    users = replace(LIGHT, name="users", server_ms=None, statements=None)
    pages = [(PROPERTY, asdict(page)) for page in (users, LIGHT, users)]

    table = table_of([*pages, ("other", 1)])

    assert table.splitlines() == [HEADER, str(LIGHT), str(users)]
    assert table_of([]) == ""
