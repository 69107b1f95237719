from __future__ import annotations

import pytest

from core.text.durations import duration_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 second"),
        (44.1, "45 seconds"),
        (60, "1 minute"),
        (61, "2 minutes"),
        (891, "15 minutes"),
        (7200, "2 hours"),
    ],
)
def test_a_duration_is_written_in_words(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
