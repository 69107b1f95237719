"""The list of customers: sorting, search, names and figures."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from models.accounts.user import Role
from models.pages.customers import CustomerSort, list_customers
from tests.support.factories.rows import add_key, add_user
from tests.support.factories.usage import add_usage

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def test_customers_are_sorted_by_every_column(session: Session, now: datetime) -> None:
    names = ["Carol", "alice", "Bob"]
    users = [add_user(session) for _ in names]
    for index, (user, name) in enumerate(zip(users, names, strict=True)):
        user.name, user.email = name, f"{name.lower()}@example.com"
        user.created_at = now - index * DAY
        for _ in range(index):
            add_usage(session, add_key(session, user), now - index * HOUR)
    add_usage(session, add_key(session, users[0]), now - 20 * DAY)
    session.flush()

    def order(sort: CustomerSort, is_descending: bool) -> list[str]:
        page = list_customers(session, now=now, sort=sort, is_descending=is_descending, limit=9)
        assert page.total == 3
        return [row.user.name for row in page.rows]

    expected = {
        CustomerSort.CREATED: ["Carol", "alice", "Bob"],
        CustomerSort.EMAIL: ["Carol", "Bob", "alice"],
        CustomerSort.NAME: ["Carol", "Bob", "alice"],
        CustomerSort.TOKENS: ["Bob", "alice", "Carol"],
    }
    for sort, descending in expected.items():
        assert order(sort, True) == descending
        assert order(sort, False) == descending[::-1]
    assert order(CustomerSort.KEYS, True)[0] == "Bob"
    (first,) = list_customers(session, now=now, sort=CustomerSort.TOKENS, limit=1).rows
    assert (first.keys, first.tokens) == (2, 30)


def test_customers_are_found_by_any_part_of_a_name_and_counted(
    session: Session, now: datetime
) -> None:
    for email in ("ada.b@one.example", "bob@two.example", "x_y@two.example"):
        add_user(session).email = email
    add_user(session, role=Role.ADMIN).email = "root@two.example"
    gone = add_user(session)
    gone.email, gone.deleted_at = "gone@two.example", now
    session.flush()

    def found(limit: int = 9, offset: int = 0, **wanted: Any) -> tuple[list[str], int]:
        page = list_customers(
            session, now=now, sort=CustomerSort.EMAIL, is_descending=False, offset=offset,
            limit=limit, **wanted,
        )  # fmt: skip
        return [row.user.email.split("@")[0] for row in page.rows], page.total

    assert found(search="TWO.ex") == (["bob", "root", "x_y"], 3)
    assert found(search="a.b") == (["ada.b"], 1)
    assert found(search="_") == (["x_y"], 1)
    assert found(role=Role.ADMIN) == (["root"], 1)
    assert found(limit=2, offset=2) == (["root", "x_y"], 4)
    assert found(limit=2, offset=9) == ([], 4)
