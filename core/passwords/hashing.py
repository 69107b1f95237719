"""Hashes passwords with argon2id and the parameters of RFC 9106's second recommendation."""

from __future__ import annotations

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

from core.text.canonical import canonical_password

#: Longer passwords are rejected before they are hashed.
MAX_PASSWORD_LENGTH = 1024

_HASHER = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)


def hash_password(password: str) -> str:
    """Return the hash of a password in its canonical form."""
    return _HASHER.hash(canonical_password(password))


def password_matches(password_hash: str, password: str) -> bool:
    """Compare in constant time; a damaged hash matches nothing."""
    return any([_verifies(password_hash, form) for form in _forms(password)])


def is_password_of(password_hash: str | None, password: str) -> bool:
    """Check the password of an account, or of none (`None`).

    Takes equally long without an account, so that the time does not reveal which emails exist.
    """
    if password_hash is None:
        for form in _forms(password):
            _HASHER.hash(form)
        return False
    return password_matches(password_hash, password)


def _forms(password: str) -> set[str]:
    """Return the canonical form and the given form, which earlier versions hashed."""
    return {canonical_password(password), password}


def _verifies(password_hash: str, password: str) -> bool:
    try:
        return _HASHER.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
