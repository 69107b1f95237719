"""What people call a key, for pages that have only its id."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.accounts.api_key import ApiKey
from models.accounts.user import User


class KeyName(NamedTuple):
    """A key's name, and whose it is."""

    name: str
    owner_id: UUID
    owner_email: str


def names_of_keys(session: Session, ids: Collection[UUID]) -> dict[UUID, KeyName]:
    """Return the names of keys, of deleted ones too."""
    if not ids:
        return {}
    query = select(ApiKey.id, ApiKey.name, ApiKey.user_id, User.email)
    rows = session.execute(query.join(User, User.id == ApiKey.user_id).where(ApiKey.id.in_(ids)))
    return {key_id: KeyName(name, owner, email) for key_id, name, owner, email in rows}
