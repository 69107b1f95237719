"""Rejects weak new passwords of any length (NIST SP 800-63B, 3.1.1.2).

The list has the passwords of at least 8 characters of Django's `common-passwords.txt.gz`.
"""

from __future__ import annotations

import gzip
from functools import cache
from importlib.resources import files

from core.text.canonical import canonical_password

#: Passwords that attackers try first at this service.
_OWN_WORDS = frozenset({"admin123", "bountycoder"})


def password_fault(password: str, *, email: str = "") -> str | None:
    """Return why a new password is rejected, or `None` if it is accepted."""
    text = canonical_password(password).strip().casefold()
    if len(set(text)) < 2:
        return "must not be blank or one character again and again"
    if email and text == canonical_password(email).casefold():
        return "must not be the email"
    if text in _OWN_WORDS or text in _common_passwords():
        return "is one of the most common passwords, choose another"
    return None


@cache
def _common_passwords() -> frozenset[str]:
    packed = files("core.passwords").joinpath("common_passwords.txt.gz").read_bytes()
    return frozenset(gzip.decompress(packed).decode().split())
