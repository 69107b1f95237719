from __future__ import annotations

import pytest

from core.passwords.rules import password_fault


@pytest.mark.parametrize(
    "password", ["password", "Password", "12345678", "admin123", "BountyCoder"]
)
def test_the_most_common_passwords_are_refused(password: str) -> None:
    assert password_fault(password) == "is one of the most common passwords, choose another"


@pytest.mark.parametrize("password", [" " * 8, "\u3000" * 8, "aaaaaaaa", "aAaAaAaA", "\t" * 9])
def test_a_blank_or_a_single_character_is_refused(password: str) -> None:
    assert password_fault(password) == "must not be blank or one character again and again"


def test_the_email_is_refused() -> None:
    assert password_fault("Ann@Example.com", email="ann@example.com") == "must not be the email"


@pytest.mark.parametrize(
    "password", ["correct horse battery", "kV7#x2!q", "пароль-из-слов", "x" * 9 + "y"]
)
def test_other_passwords_are_accepted(password: str) -> None:
    assert password_fault(password, email="ann@example.com") is None
