"""Parses whole numbers of text, such as a query, a header or a form."""

from __future__ import annotations

#: The default bound of a parsed number.
NINE_DIGITS = 999_999_999


def bounded_integer(text: str, *, least: int = 0, most: int = NINE_DIGITS) -> int | None:
    """Return the number that `text` writes in ASCII digits, or `None` if there is no such number.

    Text with a sign, spaces or more digits than `most` has is refused before it is converted.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most))):
        return None
    number = int(text)
    return number if least <= number <= most else None
