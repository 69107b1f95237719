"""Passwords: argon2id, with the parameters of RFC 9106's second recommendation."""

from __future__ import annotations

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

_HASHER = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)


def hash_password(password: str) -> str:
    return _HASHER.hash(password)


def password_matches(password_hash: str, password: str) -> bool:
    """Compare in constant time; a damaged hash matches nothing."""
    try:
        return _HASHER.verify(password_hash, password)
    except VerificationError:
        return False
