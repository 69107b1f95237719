"""Names of keys and emails of users by their ids, including deleted ones."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.accounts.api_key import ApiKey
from models.accounts.user import User
from models.database.arrays import is_one_of


class KeyName(NamedTuple):
    """The name of a key, and its owner."""

    name: str
    owner_id: UUID
    owner_email: str


def key_names(session: Session, key_ids: Collection[UUID]) -> dict[UUID, KeyName]:
    """Return the names of keys by their ids."""
    if not key_ids:
        return {}
    query = select(ApiKey.id, ApiKey.name, ApiKey.user_id, User.email)
    query = query.join(User, User.id == ApiKey.user_id).where(is_one_of(ApiKey.id, key_ids))
    rows = session.execute(query)
    return {key_id: KeyName(name, owner_id, email) for key_id, name, owner_id, email in rows}


def user_emails(session: Session, user_ids: Collection[UUID]) -> dict[UUID, str]:
    """Return the emails of users by their ids."""
    if not user_ids:
        return {}
    rows = session.execute(select(User.id, User.email).where(is_one_of(User.id, user_ids)))
    return {user_id: email for user_id, email in rows}
