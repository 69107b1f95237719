"""Validates the names of keys, users, batches and files: a name must be visible."""

from __future__ import annotations

import unicodedata

from pydantic import AfterValidator, ValidationInfo

#: Control and format characters (such as those that reverse a line), and line breaks.
_FORBIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
#: Letters and signs that are invisible.
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")
#: Marks that are invisible even on a letter; variation selectors change only some emoji.
_UNSEEN = frozenset(
    {"\u034f", "\u17b4", "\u17b5", *map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10)))}
) | frozenset(map(chr, range(0xE0100, 0xE01F0)))


def is_seen(letter: str) -> bool:
    """Return whether a character is visible, as each character of an email must be."""
    is_assigned = unicodedata.category(letter) not in {"Cn", "Co"}
    return is_assigned and is_clean(letter) and letter not in _BLANK and letter not in _UNSEEN


def is_clean(letter: str) -> bool:
    """Return whether a character is allowed in a name."""
    return unicodedata.category(letter) not in _FORBIDDEN


def is_visible(text: str) -> bool:
    """Return whether a text has a visible character."""
    return any(_is_visible_character(letter) for letter in text)


def name_fault(text: str) -> str | None:
    """Return the fault of a name, or `None`."""
    if not all(is_clean(letter) for letter in text):
        return "must not contain control characters or invisible format characters"
    return None if is_visible(text) else "must contain a visible character"


def _check(text: str, info: ValidationInfo) -> str:
    fault = name_fault(text) if text else None
    if fault is not None:
        raise ValueError(f"{info.field_name} {fault}")
    return text


#: Rejects text that is not a valid name; the field itself decides whether it may be empty.
VISIBLE = AfterValidator(_check)


def _is_visible_character(letter: str) -> bool:
    # A mark is visible only on a letter; variation selectors are marks too.
    return unicodedata.category(letter)[0] not in "CZM" and letter not in _BLANK
