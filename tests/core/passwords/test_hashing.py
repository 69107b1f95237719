from __future__ import annotations

import time

import pytest
from argon2 import PasswordHasher

from core.passwords.hashing import hash_password, is_password_of, password_matches


def test_a_password_matches_its_hash_and_no_other() -> None:
    hashed = hash_password("correct horse")

    assert password_matches(hashed, "correct horse")
    assert not password_matches(hashed, "battery staple")


def test_no_password_matches_a_damaged_hash_or_a_missing_account() -> None:
    assert not password_matches("none", "x")
    assert not is_password_of(None, "x")


@pytest.mark.alone
def test_the_time_does_not_reveal_whether_there_is_an_account() -> None:
    hashed = hash_password("correct horse")

    def seconds(password_hash: str | None) -> float:
        """Return the least processor time of three; argon2 works on threads of this process."""
        times = []
        for _ in range(3):
            began = time.process_time()
            assert not is_password_of(password_hash, "battery staple")
            times.append(time.process_time() - began)
        return min(times)

    assert 0.4 < seconds(None) / seconds(hashed) < 2.5


def test_a_password_matches_in_any_unicode_composition() -> None:
    composed, apart = "caf\u00e9 noir", "cafe\u0301 noir"

    assert password_matches(hash_password(composed), apart)
    assert password_matches(hash_password(apart), composed)
    assert password_matches(hash_password("an ideographic\u3000space"), "an ideographic space")
    assert not password_matches(hash_password(composed), "cafe noir")


def test_a_hash_of_an_earlier_version_still_matches() -> None:
    apart = "cafe\u0301 noir"
    hashed = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(apart)

    assert password_matches(hashed, apart)
