from __future__ import annotations

import pytest

from core.names import is_visible, name_fault

CLEAN = [
    "key",
    "my key",
    "\N{LATIN SMALL LETTER E WITH ACUTE}",
    "e\u0301",
    "名前",
    "ключ",
    "\N{ROCKET}",
]


@pytest.mark.parametrize("name", CLEAN)
def test_what_people_can_see_is_a_name(name: str) -> None:
    assert name_fault(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "a\nb",
        "a\tb",
        "a\x7f",
        "a\x85b",
        "\u202egpj.exe",
        "a\u200bb",
        "a\u00adb",
        "a\ufeff",
        "a\u2028b",
    ],
)
def test_controls_and_formats_are_refused(name: str) -> None:
    assert name_fault(name) == "must not contain control characters or invisible format characters"


@pytest.mark.parametrize(
    "name", ["", " ", "\u00a0", "\u3000", "\u2800", "\u3164", "\ufe0f", " \u0301"]
)
def test_a_name_shows_something(name: str) -> None:
    assert name_fault(name) == "must contain a visible character"
    assert not is_visible(name)
