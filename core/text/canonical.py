"""One form for texts that people write in several: emails and passwords."""

from __future__ import annotations

import unicodedata


def canonical_email(text: str) -> str:
    """Return the form in which an email is kept and found.

    Lower case and NFKC: fullwidth letters, and accents written apart, make no second account.
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())


def canonical_password(text: str) -> str:
    """Return the form of a password that is hashed (OpaqueString of RFC 8265).

    Two keyboards may send the same password as different code points.
    """
    spaced = "".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in text)
    return unicodedata.normalize("NFC", spaced)
