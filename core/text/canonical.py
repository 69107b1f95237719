"""Converts emails and passwords to one canonical form."""

from __future__ import annotations

import unicodedata


def canonical_email(text: str) -> str:
    """Return the form in which an email is stored and searched.

    Lower case and NFKC: fullwidth letters and combining accents make no second account.
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())


def canonical_password(text: str) -> str:
    """Return the form of a password that is hashed (OpaqueString of RFC 8265).

    Two keyboards may send the same password as different code points.
    """
    spaced = "".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in text)
    return unicodedata.normalize("NFC", spaced)
