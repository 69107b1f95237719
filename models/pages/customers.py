"""Lists of users for an admin's page, with their keys and usage of this month.

A search reads all users, because no index of a plain PostgreSQL finds a part of a name. With ten
thousand users it takes a few milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from core.ids import Prefix, parse_id
from models.accounts.api_key import ApiKey, count_keys
from models.accounts.user import Role, User
from models.database.pagination import Numbered
from models.usage.month import month_usage, read_month_usage
from models.usage.rollups import read_consistently


class CustomerSort(StrEnum):
    CREATED = "created"
    EMAIL = "email"
    NAME = "name"
    TOKENS = "tokens"
    KEYS = "keys"


@dataclass(frozen=True, slots=True)
class ListedCustomer:
    """A user with the number of existing keys and the tokens of this month."""

    user: User
    keys: int
    tokens: int


def list_customers(
    session: Session,
    *,
    now: datetime,
    search: str | None = None,
    role: Role | None = None,
    sort: CustomerSort = CustomerSort.CREATED,
    is_descending: bool = True,
    offset: int = 0,
    limit: int,
) -> Numbered[ListedCustomer]:
    """Return a page of the existing users.

    Args:
        search: a part of the email or name, in any case, or the id.
    """
    conditions: list[ColumnElement[bool]] = [User.deleted_at.is_(None)]
    if search:
        conditions.append(_matches(search))
    if role is not None:
        conditions.append(User.role == role)

    def read(closed: datetime | None) -> list[ListedCustomer]:
        query, value = _sortable(sort, now, closed)
        order = value.desc().nulls_last() if is_descending else value.asc().nulls_first()
        tie = User.id.desc() if is_descending else User.id.asc()
        page = query.where(*conditions).order_by(order, tie).offset(offset).limit(limit)
        users = list(session.scalars(page))
        ids = [user.id for user in users]
        keys = count_keys(session, ids)
        tokens = read_month_usage(session, "user_id", ids, now=now, closed=closed)
        return [ListedCustomer(u, keys.get(u.id, 0), tokens.get(u.id, 0)) for u in users]

    total = session.scalar(select(func.count()).select_from(User).where(*conditions)) or 0
    return Numbered(read_consistently(session, read), total)


def _matches(search: str) -> ColumnElement[bool]:
    found = parse_id(Prefix.USER, search)
    if found is not None:
        return User.id == found
    wanted = search.lower()
    return or_(
        User.email.contains(wanted, autoescape=True),
        func.lower(User.name).contains(wanted, autoescape=True),
    )


def _sortable(sort: CustomerSort, now: datetime, closed: datetime | None) -> tuple[Any, Any]:
    """Return the query for users and its sort value."""
    query = select(User)
    if sort is CustomerSort.TOKENS:
        used = month_usage("user_id", now, closed)
        return query.outerjoin(used, used.c.id == User.id), used.c.tokens
    if sort is CustomerSort.KEYS:
        keys = (
            select(ApiKey.user_id, func.count().label("key_count"))
            .where(ApiKey.deleted_at.is_(None))
            .group_by(ApiKey.user_id)
            .subquery()
        )
        return query.outerjoin(keys, keys.c.user_id == User.id), keys.c.key_count
    columns: dict[CustomerSort, Any] = {
        CustomerSort.CREATED: User.created_at,
        CustomerSort.EMAIL: User.email,
        CustomerSort.NAME: func.lower(User.name),
    }
    return query, columns[sort]
