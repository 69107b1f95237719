from __future__ import annotations

from core.passwords import hash_password, is_password_of, password_matches


def test_a_password_matches_its_hash_and_no_other() -> None:
    hashed = hash_password("correct horse")

    assert password_matches(hashed, "correct horse")
    assert not password_matches(hashed, "battery staple")


def test_a_damaged_hash_and_no_account_match_nothing() -> None:
    assert not password_matches("none", "x")
    assert not is_password_of(None, "x")
