"""Authenticates callers: a user by JWT, or an API key by its secret, or by JWT and key id.

A credential is refused only if it is known to be invalid; a database that is away is a 503.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from flask import request

from api.auth.credentials import invalid_key, presented_jwt, presented_secret
from api.auth.tokens import TokenClaims, invalid_token, read_token
from api.auth.write_limits import count_write
from api.http.caller_address import trust_address
from api.http.request_log import log_caller
from api.services import Services
from core.errors import Forbidden, Unauthorized
from core.ids import Prefix, parse_id
from core.security.api_key_secret import KeySecret
from models.accounts.api_key import ApiKey, find_key, find_key_by_secret
from models.accounts.key_cache import RequestKey
from models.accounts.session import find_signed_in_user
from models.accounts.user import User
from models.database.base import Session, database_now


@dataclass(frozen=True, slots=True)
class Caller:
    """A user, and the key that authenticated the call, if any."""

    user: User
    key: ApiKey | None

    @property
    def poller_id(self) -> UUID:
        """Id of the key or, without a key, of the user: what polls are counted by."""
        return self.user.id if self.key is None else self.key.id

    @property
    def sees_all(self) -> bool:
        """Whether the caller may see the resources of all users; a key sees only its owner's."""
        return self.key is None and self.user.is_admin

    def may_see(self, owner_id: object) -> bool:
        """Return whether the caller may see a resource of `owner_id`."""
        return self.user.id == owner_id or self.sees_all


def authenticate_user(session: Session, *, takes_key: bool = False) -> User:
    """Return the user whose JWT the request has.

    Args:
        takes_key: the call also accepts a key; the error then mentions keys.

    Raises:
        Unauthorized: there is no JWT, or it is not a valid one of an existing user.
    """
    return authenticate_token(session, takes_key=takes_key)[0]


def authenticate_token(session: Session, *, takes_key: bool = False) -> tuple[User, TokenClaims]:
    """Return the user and the claims of the JWT; otherwise as `authenticate_user`."""
    claims = read_token(presented_jwt(takes_key=takes_key))
    user = signed_in_user(session, claims)
    trust_address(claims.address)
    log_caller(user_id=user.id)
    count_write(user.id)
    return user, claims


def authenticate_admin(session: Session) -> User:
    """Return the admin whose JWT the request has.

    Raises:
        Unauthorized: as for every user.
        Forbidden: the user is not an admin.
    """
    user = authenticate_user(session)
    if not user.is_admin:
        raise Forbidden("only an admin may do this")
    return user


def authenticate_key(session: Session) -> tuple[ApiKey, User]:
    """Return the key that the request may generate with, and its owner.

    Raises:
        Unauthorized: credentials are missing or invalid.
        Forbidden: the key is inactive or has expired, or its owner is suspended.
    """
    key, owner = _key_by_secret(session) or _key_by_id(session)
    check_active(owner)
    check_usable(key, lambda: database_now(session))
    count_write(owner.id)
    return key, owner


def authenticate_generation_key(services: Services, *, may_use_cache: bool) -> RequestKey:
    """Return the key that the request may generate with.

    As `authenticate_key`, but without a session for the secret of a key, which programs send.

    Args:
        may_use_cache: accept a key from the cache (`models/accounts/key_cache.py`).
    """
    presented = presented_secret()
    if presented is None:
        with services.database.autocommit() as session:
            return RequestKey.of(*authenticate_key(session), database_now(session))
    secret = KeySecret.parse(presented)
    if secret is None:
        raise invalid_key(presented)
    if may_use_cache and (cached := services.keys.cached(secret)) is not None:
        log_caller(user_id=cached.user_id, key_id=cached.id)
        return cached
    key = services.keys.find(secret)
    if key is None:
        raise invalid_key(presented)
    log_caller(user_id=key.user_id, key_id=key.id)
    if not key.has_active_owner:
        raise suspended()
    check_usable(key, lambda: key.seen_at)
    count_write(key.user_id)
    return key


def check_usable(key: ApiKey | RequestKey, now: Callable[[], datetime]) -> None:
    """Check that a key may generate now.

    Args:
        now: returns the time of the database's clock; called only for keys that expire.

    Raises:
        Forbidden: the key is inactive or has expired.
    """
    if not key.is_active:
        raise Forbidden("this API key is not active", code="key_inactive")
    if key.expires_at is not None and key.has_expired(now()):
        raise Forbidden("this API key has expired", code="key_expired")


def authenticate(session: Session) -> Caller:
    """Return the caller, by the secret of a key or by a JWT alone."""
    if presented_secret() is not None:
        key, owner = authenticate_key(session)
        return Caller(owner, key)
    return Caller(authenticate_user(session, takes_key=True), None)


def signed_in_user(session: Session, claims: TokenClaims) -> User:
    """Return the user of a valid token.

    Raises:
        Unauthorized: the token has ended: with its session, or by a new password or role.
        Forbidden: the user is suspended.
    """
    user = find_signed_in_user(
        session, claims.user_id, version=claims.version, session_id=claims.session_id
    )
    if user is None:
        raise invalid_token()
    check_active(user)
    return user


def check_active(user: User) -> None:
    """Check that the authenticated user is not suspended.

    Raises:
        Forbidden: an admin has suspended the user.
    """
    if not user.is_active:
        raise suspended()


def suspended() -> Forbidden:
    """Return the error for a suspended user."""
    return Forbidden("an admin has suspended this account", code="user_suspended")


def _key_by_secret(session: Session) -> tuple[ApiKey, User] | None:
    presented = presented_secret()
    if presented is None:
        return None
    secret = KeySecret.parse(presented)
    found = find_key_by_secret(session, secret) if secret else None
    if found is None:
        raise invalid_key(presented)
    log_caller(user_id=found[1].id, key_id=found[0].id)
    return found


def _key_by_id(session: Session) -> tuple[ApiKey, User]:
    user = authenticate_user(session, takes_key=True)
    text = request.headers.get("x-api-key-id")
    if not text:
        raise Unauthorized("send the key's id as `x-api-key-id` with the JWT")
    key_id = parse_id(Prefix.KEY, text)
    found = find_key(session, key_id) if key_id else None
    if found is None or found[1].id != user.id:  # admins too: the owner of the key would pay
        text = "you have no such key: `x-api-key-id` takes the id of one of your keys (`key_…`)"
        raise Unauthorized(text, code="invalid_api_key")
    log_caller(user_id=user.id, key_id=found[0].id)
    return found
