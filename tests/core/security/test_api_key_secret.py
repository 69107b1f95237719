from __future__ import annotations

from core.security.api_key_secret import KeySecret


def test_a_secret_parses_back_and_matches_its_digest() -> None:
    secret = KeySecret.generate()

    assert KeySecret.parse(secret.text) == secret
    assert secret.matches(secret.digest)


def test_another_secret_with_the_same_public_id_does_not_match() -> None:
    secret = KeySecret.generate()
    forged = KeySecret(secret.public_id, KeySecret.generate().random)

    assert not forged.matches(secret.digest)


def test_the_secret_is_not_in_its_representation_or_digest() -> None:
    secret = KeySecret.generate()

    assert secret.random not in repr(secret)
    assert secret.random not in secret.digest


def test_a_malformed_secret_parses_as_none() -> None:
    for text in ("", "bc_", "bc_short_x", "sk-123", KeySecret.generate().text + "x"):
        assert KeySecret.parse(text) is None
