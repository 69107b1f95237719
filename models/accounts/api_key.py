"""API keys: the credentials of requests, with their limits and owners."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Index,
    Select,
    String,
    and_,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.ids import new_id
from core.security.api_key_secret import KeySecret
from models.accounts.user import User
from models.database.base import Base, database_now
from models.database.pagination import Keyset, read_entities

#: `last_used_at` is written at most once in this time: each write locks the key's row.
LAST_USED_RESOLUTION = timedelta(minutes=1)


class ApiKey(Base):
    """A key, with only the hash of its secret.

    Attributes:
        public_id: the part of the secret that identifies this row; safe to show.
        previous_secret_hash: hash of the secret before the last rotation, valid until
            `previous_secret_expires_at`.
        rate_limit: requests per minute.
        token_limit: prompt and completion tokens per minute; `None` for no limit.
        monthly_token_limit: tokens per calendar month (UTC); `None` for no limit.
        max_in_flight: jobs that wait or run at once; `None` for no limit.
        priority: weight of the key's share in the engine; 1 is normal.
        holds: values of fields that an admin switched off or lowered; only an admin lifts them.
        carried_tokens: tokens that deleted keys of its owner used in `carried_month`, the start of
            a month. They count in this key's month (`models/usage/key_inheritance.py`). Negative
            for a deleted key if a later key carries a part of its tokens.
        is_taken_over: the key was deleted, and a later key carries all its tokens.
    """

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint("rate_limit > 0", name="rate_limit"),
        CheckConstraint("priority between 1 and 100", name="priority"),
        CheckConstraint(
            "token_limit > 0 and monthly_token_limit > 0 and max_in_flight > 0", name="limits"
        ),
        Index("ix_api_keys_user_id_id", "user_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    name: Mapped[str] = mapped_column(String(200))
    public_id: Mapped[str] = mapped_column(String(12), unique=True)
    secret_hash: Mapped[str] = mapped_column(String(64))
    previous_secret_hash: Mapped[str | None] = mapped_column(String(64))
    previous_secret_expires_at: Mapped[datetime | None]
    rate_limit: Mapped[int]
    token_limit: Mapped[int | None]
    monthly_token_limit: Mapped[int | None] = mapped_column(BigInteger)
    max_in_flight: Mapped[int | None]
    priority: Mapped[int] = mapped_column(default=1)
    is_active: Mapped[bool] = mapped_column(default=True)
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=func.now())
    deleted_at: Mapped[datetime | None]
    holds: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict, server_default=text("'{}'"))
    carried_tokens: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    carried_month: Mapped[datetime | None]
    is_taken_over: Mapped[bool] = mapped_column(default=False, server_default=text("false"))

    def has_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def accepts(self, secret: KeySecret, now: datetime) -> bool:
        """Say whether `secret` is a valid secret of this key."""
        return is_proved_by(
            secret,
            self.secret_hash,
            self.previous_secret_hash,
            self.previous_secret_expires_at,
            now,
        )


def is_proved_by(
    secret: KeySecret,
    present: str,
    previous: str | None,
    previous_ends: datetime | None,
    now: datetime,
) -> bool:
    """Say whether `secret` has the hash `present`, or an unexpired hash `previous`.

    The hash `previous` is valid before `previous_ends`. The comparison takes the same time for a
    current and a previous secret.
    """
    is_present = secret.matches(present)
    is_previous = secret.matches(previous or "")
    return is_present | (is_previous & (previous_ends is not None and now < previous_ends))


def is_active_key(now: datetime | ColumnElement[datetime]) -> ColumnElement[bool]:
    """Return the condition that a key can generate at `now`.

    The key and its owner are neither deleted nor switched off, and the key has not expired. All
    counts of active keys use this condition. The query must join `User`.
    """
    return and_(
        ApiKey.deleted_at.is_(None),
        ApiKey.is_active.is_(True),
        or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now),
        User.deleted_at.is_(None),
        User.is_active.is_(True),
    )


def create_key(
    session: Session,
    *,
    user_id: UUID,
    name: str,
    rate_limit: int,
    priority: int = 1,
    expires_at: datetime | None = None,
    token_limit: int | None = None,
    monthly_token_limit: int | None = None,
    max_in_flight: int | None = None,
    holds: dict[str, Any] | None = None,
) -> tuple[ApiKey, KeySecret]:
    """Add a key and return it with its secret, which cannot be read later."""
    secret = KeySecret.generate()
    key = ApiKey(
        user_id=user_id,
        name=name,
        public_id=secret.public_id,
        secret_hash=secret.digest,
        rate_limit=rate_limit,
        priority=priority,
        expires_at=expires_at,
        token_limit=token_limit,
        monthly_token_limit=monthly_token_limit,
        max_in_flight=max_in_flight,
        holds=holds or {},
    )
    session.add(key)
    session.flush()
    return key, secret


def rotate_secret(session: Session, key: ApiKey, *, grace: timedelta) -> KeySecret:
    """Give a locked key a new secret.

    The present secret stays valid for `grace`, older ones end.
    """
    secret = KeySecret.renewed(key.public_id)
    has_grace = grace > timedelta(0)
    key.previous_secret_hash = key.secret_hash if has_grace else None
    key.previous_secret_expires_at = database_now(session) + grace if has_grace else None
    key.secret_hash = secret.digest
    return secret


def delete_key(session: Session, key: ApiKey) -> None:
    """Delete a key; its row stays for billing."""
    key.deleted_at = database_now(session)
    key.is_active = False


def delete_keys_of(session: Session, user_id: UUID) -> int:
    """Delete all keys of a user and return their number."""
    keys = session.scalars(
        update(ApiKey)
        .where(ApiKey.user_id == user_id, ApiKey.deleted_at.is_(None))
        .values(deleted_at=func.now(), is_active=False)
        .returning(ApiKey.id)
    )
    return len(keys.all())


def find_key_by_secret(session: Session, secret: KeySecret) -> tuple[ApiKey, User] | None:
    """Return the existing key with this secret and its existing owner, `None` without either."""
    query = _living(ApiKey.public_id == secret.public_id).add_columns(func.now())
    row = session.execute(query).one_or_none()
    if row is None or not row[0].accepts(secret, row[2]):
        return None
    return row[0], row[1]


def find_key(session: Session, key_id: UUID) -> tuple[ApiKey, User] | None:
    """Return the existing key with this id and its existing owner, `None` without either."""
    row = session.execute(_living(ApiKey.id == key_id)).one_or_none()
    return (row[0], row[1]) if row else None


def find_any_key(session: Session, key_id: UUID) -> tuple[ApiKey, User]:
    """Return a key and its owner, even if they are deleted."""
    row = session.execute(
        select(ApiKey, User).join(User, User.id == ApiKey.user_id).where(ApiKey.id == key_id)
    ).one()
    return row[0], row[1]


def lock_key(session: Session, key_id: UUID) -> ApiKey | None:
    """Return the existing key and lock its row until the transaction ends."""
    return session.scalar(
        select(ApiKey)
        .where(ApiKey.id == key_id, ApiKey.deleted_at.is_(None))
        .with_for_update(key_share=True)  # new jobs may still refer to it
        .execution_options(populate_existing=True)
    )


def find_owner_of_key(session: Session, key_id: UUID) -> UUID | None:
    """Return the owner of a key, also of a deleted one."""
    return session.scalar(select(ApiKey.user_id).where(ApiKey.id == key_id))


def count_keys(session: Session, user_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Count the existing keys of users; users without keys are left out."""
    rows = session.execute(
        select(ApiKey.user_id, func.count())
        .where(ApiKey.user_id.in_(user_ids), ApiKey.deleted_at.is_(None))
        .group_by(ApiKey.user_id)
    )
    return {user_id: count for user_id, count in rows}


def list_keys(
    session: Session, *, user_id: UUID | None, after: UUID | None, limit: int
) -> Keyset[ApiKey]:
    """Return existing keys of one user or of all, newest first, older than `after`."""
    query = select(ApiKey).where(ApiKey.deleted_at.is_(None))
    if user_id is not None:
        query = query.where(ApiKey.user_id == user_id)
    return read_entities(session, query, ApiKey.id, after=after, limit=limit)


def _living(condition: ColumnElement[bool]) -> Select[ApiKey, User]:
    """Return the query for existing keys with existing owners."""
    return (
        select(ApiKey, User)
        .join(User, User.id == ApiKey.user_id)
        .where(condition, ApiKey.deleted_at.is_(None), User.deleted_at.is_(None))
    )
