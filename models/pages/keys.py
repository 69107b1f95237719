"""Lists of keys for the pages, with owner, status and usage of this month."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from core.ids import Prefix, parse_id
from models.accounts.api_key import ApiKey, is_active_key
from models.accounts.user import User
from models.database.pagination import Numbered
from models.usage.month import month_usage, read_month_usage
from models.usage.rollups import read_consistently


class KeyStatus(StrEnum):
    ACTIVE = "active"
    INACTIVE = "inactive"
    EXPIRED = "expired"
    SUSPENDED = "suspended"


class KeySort(StrEnum):
    CREATED = "created"
    NAME = "name"
    OWNER = "owner"
    LIMIT = "limit"
    LAST_USED = "lastUsed"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True)
class ListedKey:
    """A key with its owner's email and the tokens of this month."""

    key: ApiKey
    owner_email: str
    status: KeyStatus
    tokens: int


def status_of(key: ApiKey, now: datetime, *, has_active_owner: bool) -> KeyStatus:
    """Return the status of an existing key.

    A key that is switched off is inactive, even if it has also expired. All keys of a suspended
    user are suspended.
    """
    if not has_active_owner:
        return KeyStatus.SUSPENDED
    if not key.is_active:
        return KeyStatus.INACTIVE
    return KeyStatus.EXPIRED if key.has_expired(now) else KeyStatus.ACTIVE


def list_key_page(
    session: Session,
    *,
    user_id: UUID | None,
    now: datetime,
    search: str | None = None,
    status: KeyStatus | None = None,
    sort: KeySort = KeySort.CREATED,
    is_descending: bool = True,
    offset: int = 0,
    limit: int,
) -> Numbered[ListedKey]:
    """Return a page of the existing keys of one user or of all.

    Args:
        search: a part of the key's name or of its owner's email or name, in any case; the
            beginning of its secret; or its id.
    """
    conditions: list[ColumnElement[bool]] = [ApiKey.deleted_at.is_(None)]
    if user_id is not None:
        conditions.append(ApiKey.user_id == user_id)
    if status is not None:
        conditions.append(_has_status(status, now))
    if search:
        conditions.append(_matches(search))

    def read(closed: datetime | None) -> list[ListedKey]:
        query, value = _sortable(sort, now, closed, user_id)
        order = value.desc().nulls_last() if is_descending else value.asc().nulls_first()
        tie = ApiKey.id.desc() if is_descending else ApiKey.id.asc()
        page = query.where(*conditions).order_by(order, tie).offset(offset).limit(limit)
        found = session.execute(page).all()
        ids = [key.id for key, _, _ in found]
        tokens = read_month_usage(session, "api_key_id", ids, now=now, closed=closed)
        return [
            ListedKey(
                key, email, status_of(key, now, has_active_owner=is_active), tokens.get(key.id, 0)
            )
            for key, email, is_active in found
        ]

    count = select(func.count()).select_from(ApiKey)
    if search or status is not None:
        count = count.join(User, User.id == ApiKey.user_id)
    total = session.scalar(count.where(*conditions)) or 0
    return Numbered(read_consistently(session, read), total)


def _has_status(status: KeyStatus, now: datetime) -> ColumnElement[bool]:
    if status is KeyStatus.ACTIVE:
        return is_active_key(now)
    if status is KeyStatus.SUSPENDED:
        return User.is_active.is_(False)
    if status is KeyStatus.INACTIVE:
        return and_(User.is_active.is_(True), ApiKey.is_active.is_(False))
    return and_(User.is_active.is_(True), ApiKey.is_active.is_(True), ApiKey.expires_at <= now)


def _matches(search: str) -> ColumnElement[bool]:
    found = parse_id(Prefix.KEY, search)
    if found is not None:
        return ApiKey.id == found
    wanted = search.lower()
    # A pasted secret finds its key. Only the public part of the secret is used.
    public_id = wanted.removeprefix("bc_").partition("_")[0] if wanted.startswith("bc_") else wanted
    return or_(
        func.lower(ApiKey.name).contains(wanted, autoescape=True),
        User.email.contains(wanted, autoescape=True),
        func.lower(User.name).contains(wanted, autoescape=True),
        ApiKey.public_id.startswith(public_id, autoescape=True),
    )


def _sortable(
    sort: KeySort, now: datetime, closed: datetime | None, user_id: UUID | None
) -> tuple[Any, Any]:
    """Return the query for keys, their owners' emails and states, and the sort value."""
    query = select(ApiKey, User.email, User.is_active).join(User, User.id == ApiKey.user_id)
    if sort is KeySort.TOKENS:
        used = month_usage("api_key_id", now, closed, user_id=user_id)
        return query.outerjoin(used, used.c.id == ApiKey.id), used.c.tokens
    columns: dict[KeySort, Any] = {
        KeySort.CREATED: ApiKey.created_at,
        KeySort.NAME: func.lower(ApiKey.name),
        KeySort.OWNER: User.email,
        KeySort.LIMIT: ApiKey.rate_limit,
        KeySort.LAST_USED: ApiKey.last_used_at,
    }
    return query, columns[sort]
