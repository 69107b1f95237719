"""API keys: what may generate, how much, and for whom it counts."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, or_, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.ids import new_id
from core.key_secret import KeySecret
from models.base import Base, utc_now
from models.user import User

#: `last_used_at` is written at most this often: one hot row per key would serialise its requests.
LAST_USED_RESOLUTION = timedelta(minutes=1)


class ApiKey(Base):
    """A key. Its secret was shown once; the row holds only the hash.

    Attributes:
        public_id: the part of the secret that finds this row; safe to show.
        previous_secret_hash: of the secret before the last rotation; good until
            `previous_secret_expires_at`.
        rate_limit: requests a minute.
        token_limit: tokens a minute, prompt and answer together; `None` for no limit.
        monthly_token_limit: tokens in a calendar month (UTC); `None` for no limit.
        max_in_flight: jobs that wait or run at once; `None` for no limit.
        priority: weight of the key's share in the engine, 1 is normal.
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
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    deleted_at: Mapped[datetime | None]

    def has_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now


def create_key(
    session: Session,
    *,
    user_id: UUID,
    name: str,
    rate_limit: int,
    priority: int = 1,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, KeySecret]:
    """Add a key and return it with its secret, which nothing can show again."""
    secret = KeySecret.generate()
    key = ApiKey(
        user_id=user_id,
        name=name,
        public_id=secret.public_id,
        secret_hash=secret.digest,
        rate_limit=rate_limit,
        priority=priority,
        expires_at=expires_at,
    )
    session.add(key)
    session.flush()
    return key, secret


def find_key_by_secret(session: Session, secret: KeySecret) -> tuple[ApiKey, User] | None:
    """Return the living key that `secret` proves, and its living owner."""
    found = _key_and_owner(session, ApiKey.public_id == secret.public_id)
    if found is None or not secret.matches(found[0].secret_hash):
        return None
    return found


def find_key(session: Session, key_id: UUID) -> tuple[ApiKey, User] | None:
    """Return the living key with this id, and its living owner."""
    return _key_and_owner(session, ApiKey.id == key_id)


def list_keys(
    session: Session, *, user_id: UUID | None, after: UUID | None, limit: int
) -> list[ApiKey]:
    """Return living keys, newest first, of one user or of all, from before the id `after`."""
    query = select(ApiKey).where(ApiKey.deleted_at.is_(None))
    if user_id is not None:
        query = query.where(ApiKey.user_id == user_id)
    if after is not None:
        query = query.where(ApiKey.id < after)
    return list(session.scalars(query.order_by(ApiKey.id.desc()).limit(limit)))


def mark_used(session: Session, key: ApiKey, now: datetime) -> None:
    """Note that the key was used, at most once in `LAST_USED_RESOLUTION`."""
    if key.last_used_at is not None and now - key.last_used_at < LAST_USED_RESOLUTION:
        return
    stale = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < now - LAST_USED_RESOLUTION)
    session.execute(
        update(ApiKey)
        .where(ApiKey.id == key.id, stale)
        .values(last_used_at=now)
        .execution_options(synchronize_session=False)
    )


def _key_and_owner(session: Session, condition: object) -> tuple[ApiKey, User] | None:
    row = session.execute(
        select(ApiKey, User)
        .join(User, User.id == ApiKey.user_id)
        .where(condition, ApiKey.deleted_at.is_(None), User.deleted_at.is_(None))  # type: ignore[arg-type]
    ).one_or_none()
    return (row[0], row[1]) if row else None
