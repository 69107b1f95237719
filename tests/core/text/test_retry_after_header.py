from __future__ import annotations

import pytest

from core.text.retry_after_header import read_retry_after


@pytest.mark.parametrize(
    "text", ["", "soon", "-1", "٣", ", 31 Dec 190000000000000000000000000000099 23:59:59 GMT"]
)
def test_a_malformed_header_is_none(text: str) -> None:
    assert read_retry_after(text) is None


def test_seconds_and_past_dates_are_accepted() -> None:
    assert read_retry_after("120") == 120
    assert read_retry_after("99999999999") == 99999999999
    assert read_retry_after("9" * 9999) == float("inf")
    assert read_retry_after("Fri, 31 Dec 1999 23:59:59 GMT") == 0
