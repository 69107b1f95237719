from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.errors import Conflict
from models.accounts.user import (
    Role,
    User,
    create_user,
    delete_user,
    find_user_by_email,
    flush_email,
    list_users,
    lock_admins,
    lock_user,
)
from models.database.base import SessionFactory
from tests.support.factories.rows import add_user


def test_concurrent_registrations_of_one_email_create_one_user(database: SessionFactory) -> None:
    together = Barrier(4)

    def register(_: int) -> str:
        with database() as session:
            together.wait(10)
            try:
                create_user(session, email="A@example.com", password_hash="x")
            except Conflict as error:
                return error.code
            session.commit()
            return "made"

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(register, range(4))) == ["email_taken"] * 3 + ["made"]


def test_an_email_can_be_reused_when_its_user_is_deleted(session: Session) -> None:
    first = create_user(session, email="a@example.com", password_hash="x")
    delete_user(session, first)

    second = create_user(session, email="A@example.com", password_hash="x")

    assert find_user_by_email(session, "a@EXAMPLE.com") is second
    assert (first.token_version, first.password_hash) == (1, "")


def test_an_account_of_an_earlier_version_is_found_by_its_stored_email(session: Session) -> None:
    apart, composed = "e\u0301@example.com", "\u00e9@example.com"
    old = User(email=apart, password_hash="x")
    session.add(old)
    session.flush()

    assert find_user_by_email(session, apart) is old
    new = create_user(session, email=composed, password_hash="x")
    assert find_user_by_email(session, apart) is old
    assert find_user_by_email(session, composed) is new


def test_an_email_cannot_be_changed_to_one_that_is_taken(session: Session) -> None:
    create_user(session, email="a@example.com", password_hash="x")
    other = create_user(session, email="b@example.com", password_hash="x")

    other.email = "a@example.com"

    with pytest.raises(Conflict):
        flush_email(session)


@pytest.mark.parametrize("change", ["demote", "delete"])
def test_one_of_two_admins_that_remove_each_other_stays(
    database: SessionFactory, change: str
) -> None:
    for _ in range(10):
        with database.begin() as session:
            for user in session.scalars(select(User)):
                user.role = Role.CUSTOMER
            admins = [add_user(session, role=Role.ADMIN).id for _ in range(2)]
        together = Barrier(2)

        def remove(victim: object, together: Barrier = together) -> bool:
            with database.begin() as session:
                together.wait(10)
                left = lock_admins(session)
                user = lock_user(session, victim)  # type: ignore[arg-type]
                if user is None or left == [user.id]:
                    return False
                if change == "demote":
                    user.role = Role.CUSTOMER
                else:
                    delete_user(session, user)
                return True

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(remove, admins)) == [False, True]


def test_users_are_found_by_the_beginning_of_email_or_name(session: Session) -> None:
    for email, name in (("ann@x.com", "Zoe"), ("zed@x.com", "ANNA"), ("100%@x.com", "joanna")):
        create_user(session, email=email, name=name, password_hash="x")

    def found(search: str | None) -> list[str]:
        return [user.email for user in list_users(session, search=search, after=None, limit=9).rows]

    assert found("aNN") == ["zed@x.com", "ann@x.com"]
    assert found("100%") == ["100%@x.com"]
    assert found("%") == []
    assert len(found(None)) == 3


def test_users_are_paged_newest_first_without_the_deleted(session: Session) -> None:
    users = [add_user(session) for _ in range(4)]
    delete_user(session, users[2])
    session.flush()

    first = list_users(session, search=None, after=None, limit=2).rows
    rest = list_users(session, search=None, after=first[-1].id, limit=2).rows

    assert [user.id for user in first + rest] == [users[3].id, users[1].id, users[0].id]
