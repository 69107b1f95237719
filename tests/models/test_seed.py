from __future__ import annotations

from sqlalchemy import select

from core.passwords.hashing import password_matches
from models.accounts.user import Role, User
from models.database.base import SessionFactory
from models.seed import replace_default_passwords, seed_admin, seed_development_key
from tests.support.factories.rows import hash_quickly


def seed(database: SessionFactory, email: str = "Admin@Example.com") -> User:
    with database.begin() as session:
        return seed_admin(session, email=email, password="admin123")


def test_a_new_database_gets_one_admin(database: SessionFactory) -> None:
    first, second = seed(database), seed(database)

    assert first.id == second.id
    assert (first.email, first.role) == ("admin@example.com", "admin")
    assert password_matches(first.password_hash, "admin123")


def test_a_renamed_admin_is_not_seeded_twice(database: SessionFactory) -> None:
    seed(database)
    with database.begin() as session:
        session.scalars(select(User)).one().email = "other@example.com"

    assert seed(database).email == "other@example.com"


def test_a_remembered_key_is_reused_until_it_is_revoked(database: SessionFactory) -> None:
    with database.begin() as session:
        owner = seed_admin(session, email="a@example.com", password="admin123")
        key, secret = seed_development_key(session, owner=owner, remembered=None, rate_limit=5)
        reused = seed_development_key(session, owner=owner, remembered=secret.text, rate_limit=5)
        key.is_active = False
        session.flush()
        new = seed_development_key(session, owner=owner, remembered=secret.text, rate_limit=5)

    assert reused == (key, secret)
    assert new[1] != secret


def test_production_replaces_the_public_default_password(database: SessionFactory) -> None:
    seed(database)
    with database.begin() as session:
        session.add_all(
            User(email=f"{name}@example.com", password_hash=hash_quickly(password), role=role)
            for name, password, role in (
                ("second", "admin123", Role.ADMIN),
                ("safe", "a password of mine", Role.ADMIN),
                ("customer", "admin123", Role.CUSTOMER),
            )
        )

    with database.begin() as session:
        replaced = replace_default_passwords(session, password="the production's own")
        second_run = replace_default_passwords(session, password="the production's own")

    assert (replaced, second_run) == (["admin@example.com", "second@example.com"], [])
    with database() as session:
        users = {user.email: user for user in session.scalars(select(User))}
    for email in replaced:
        assert password_matches(users[email].password_hash, "the production's own")
        assert users[email].token_version == 1
    assert password_matches(users["safe@example.com"].password_hash, "a password of mine")
    assert password_matches(users["customer@example.com"].password_hash, "admin123")
