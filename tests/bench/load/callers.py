"""Many users with a key each: real rows, real secrets."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, func, insert, select, update

from core.ids import new_id
from core.passwords.hashing import hash_password
from core.security.api_key_secret import KeySecret
from models.accounts.api_key import ApiKey
from models.accounts.user import Role, User
from models.database.base import Session, utc_now
from models.usage.usage import UsageHourly

#: So high that no limit refuses a call.
RATE_LIMIT = 1_000_000
#: The password of all callers.
PASSWORD = "password of a load test"


def add_callers(session: Session, count: int) -> list[str]:
    """Add users with a key each; return the keys' secrets."""
    now, password_hash = utc_now(), hash_password(PASSWORD)
    owners = [new_id() for _ in range(count)]
    secrets = [KeySecret.generate() for _ in owners]
    session.execute(
        insert(User),
        [
            {
                "id": owner,
                "email": f"load-{owner.hex}@example.com",
                "name": "Load",
                "password_hash": password_hash,
                "role": Role.CUSTOMER,
                "created_at": now,
            }
            for owner in owners
        ],
    )
    session.execute(
        insert(ApiKey),
        [
            {
                "user_id": owner,
                "name": "load",
                "public_id": secret.public_id,
                "secret_hash": secret.digest,
                "rate_limit": RATE_LIMIT,
                "created_at": now,
            }
            for owner, secret in zip(owners, secrets, strict=True)
        ],
    )
    return [secret.text for secret in secrets]


def adopt_keys(session: Session, count: int) -> list[str]:
    """Give existing keys new secrets and no limits; return the secrets, the busiest keys first."""
    busy = (
        select(UsageHourly.api_key_id, func.sum(UsageHourly.requests).label("requests"))
        .group_by(UsageHourly.api_key_id)
        .subquery()
    )
    query = (
        select(ApiKey.id)
        .join(User, User.id == ApiKey.user_id)
        .outerjoin(busy, busy.c.api_key_id == ApiKey.id)
        .where(ApiKey.deleted_at.is_(None), User.deleted_at.is_(None), User.role == Role.CUSTOMER)
        .order_by(busy.c.requests.desc().nulls_last(), ApiKey.id)
        .limit(count)
    )
    ids: Sequence[object] = session.scalars(query).all()
    secrets = [KeySecret.generate() for _ in ids]
    table = ApiKey.__table__
    session.connection().execute(
        update(table)  # type: ignore[arg-type]
        .where(table.c.id == bindparam("key"))
        .values(
            public_id=bindparam("public"),
            secret_hash=bindparam("hash"),
            rate_limit=RATE_LIMIT,
            token_limit=None,
            monthly_token_limit=None,
            max_in_flight=None,
            is_active=True,
            expires_at=None,
        ),
        [
            {"key": key, "public": secret.public_id, "hash": secret.digest}
            for key, secret in zip(ids, secrets, strict=True)
        ],
    )
    return [secret.text for secret in secrets]
