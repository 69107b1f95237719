"""What a new database begins with: the first admin, and in development a key to try."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.key_secret import KeySecret
from core.passwords import hash_password
from models.advisory_locks import ServiceLock, take_lock
from models.api_key import ApiKey, create_key, find_key_by_secret
from models.user import Role, User, find_user_by_email


def seed_admin(session: Session, *, email: str, password: str) -> User:
    """Return an admin, making the first one with this email and password if there is none.

    Two seeds at once would make two admins: the second waits until this transaction ends.
    """
    take_lock(session, ServiceLock.SEED)
    admin = find_user_by_email(session, email)
    if admin is None or not admin.is_admin:
        admin = session.scalar(
            select(User)
            .where(User.role == Role.ADMIN, User.deleted_at.is_(None))
            .order_by(User.id)
            .limit(1)
        )
    if admin is None:
        admin = User(
            email=email.lower(),
            name="Administrator",
            password_hash=hash_password(password),
            role=Role.ADMIN,
        )
        session.add(admin)
        session.flush()
    return admin


def seed_development_key(
    session: Session, *, owner: User, remembered: str | None, rate_limit: int
) -> tuple[ApiKey, KeySecret]:
    """Return the key whose secret was remembered, or a new one if it no longer works."""
    secret = KeySecret.parse(remembered or "")
    if secret is not None:
        found = find_key_by_secret(session, secret)
        if found is not None and found[0].is_active:
            return found[0], secret
    return create_key(session, user_id=owner.id, name="development", rate_limit=rate_limit)
