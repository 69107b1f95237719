"""Seeds a new database: the first admin, and in development a key to try."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.config.settings import DEFAULT_ADMIN_PASSWORD
from core.passwords.hashing import hash_password, password_matches
from core.security.api_key_secret import KeySecret
from core.text.canonical import canonical_email
from models.accounts.api_key import ApiKey, create_key, find_key_by_secret
from models.accounts.audit import record_audit
from models.accounts.session import end_sessions
from models.accounts.user import Role, User, find_user_by_email
from models.database.locks import ServiceLock, take_lock


def seed_admin(session: Session, *, email: str, password: str) -> User:
    """Return an admin; create the first one with this email and password if needed.

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
            email=canonical_email(email),
            name="Administrator",
            password_hash=hash_password(password),
            role=Role.ADMIN,
        )
        session.add(admin)
        session.flush()
    return admin


def replace_default_passwords(session: Session, *, password: str) -> list[str]:
    """Give admins who still have the development's default password another one.

    A trial's database that goes into production has such an admin, and everybody knows the
    password. Their sessions and tokens end.

    Returns:
        Their emails.
    """
    admins = session.scalars(
        select(User)
        .where(User.role == Role.ADMIN, User.deleted_at.is_(None))
        .order_by(User.id)
        .with_for_update(key_share=True)
    )
    replaced = []
    for admin in admins:
        if password_matches(admin.password_hash, DEFAULT_ADMIN_PASSWORD):
            admin.password_hash = hash_password(password)
            admin.token_version += 1
            end_sessions(session, admin.id)
            replaced.append(admin.email)
            details = {"password": "changed"}
            record_audit(
                session, action="user.update", actor_id=None, target_id=admin.id, details=details
            )
    return replaced


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
