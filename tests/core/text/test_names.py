from __future__ import annotations

import pytest

from core.text.names import is_seen, is_visible, name_fault

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
def test_visible_text_is_a_name(name: str) -> None:
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
def test_a_name_has_a_visible_character(name: str) -> None:
    assert name_fault(name) == "must contain a visible character"
    assert not is_visible(name)


@pytest.mark.parametrize(
    "letter",
    [
        *("\u034f", "\u115f", "\u1160", "\u17b4", "\u180b", "\u200b", "\u2065", "\u2800", "\u3164"),
        *("\ufe00", "\ufe0f", "\uffa0", "\ufff0", "\U000e0100", "\U000e01ef", "\U000e0fff"),
    ],
)
def test_invisible_characters_are_not_seen(letter: str) -> None:
    assert not is_seen(letter)


@pytest.mark.parametrize(
    "letter", ["a", "\u0301", "\u093f", "\u0e31", "名", "ж", "-", "\N{ROCKET}"]
)
def test_letters_marks_and_signs_of_scripts_are_seen(letter: str) -> None:
    assert is_seen(letter)
