"""Names that people give to keys, users, batches and files: everybody must be able to see them."""

from __future__ import annotations

import unicodedata

from pydantic import AfterValidator, ValidationInfo

#: Controls, formats (also those that turn the direction of a line), and breaks of lines.
_FORBIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
#: Letters and signs that show nothing.
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")
#: Marks that show nothing, not even on a letter; selectors of variants change only some emoji.
_UNSEEN = frozenset(
    {"\u034f", "\u17b4", "\u17b5", *map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10)))}
) | frozenset(map(chr, range(0xE0100, 0xE01F0)))


def is_seen(letter: str) -> bool:
    """Say whether readers see a character, as each of an email must be."""
    is_assigned = unicodedata.category(letter) not in {"Cn", "Co"}
    return is_assigned and is_clean(letter) and letter not in _BLANK and letter not in _UNSEEN


def is_clean(letter: str) -> bool:
    """Say whether a character may stand in a name."""
    return unicodedata.category(letter) not in _FORBIDDEN


def is_visible(text: str) -> bool:
    """Say whether anything of a text can be seen."""
    return any(_shows(letter) for letter in text)


def name_fault(text: str) -> str | None:
    """Return what is wrong with a name, `None` if nothing is."""
    if not all(is_clean(letter) for letter in text):
        return "must not contain control characters or invisible format characters"
    return None if is_visible(text) else "must contain a visible character"


def _check(text: str, info: ValidationInfo) -> str:
    fault = name_fault(text) if text else None
    if fault is not None:
        raise ValueError(f"{info.field_name} {fault}")
    return text


#: Refuses a field's text that is no name; whether it may be empty is the field's own matter.
VISIBLE = AfterValidator(_check)


def _shows(letter: str) -> bool:
    # A mark shows something only on a letter; selectors of variants are marks too.
    return unicodedata.category(letter)[0] not in "CZM" and letter not in _BLANK
