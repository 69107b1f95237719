"""JWTs: short-lived access tokens and refresh tokens, signed with one pinned algorithm.

Each carries the user's `token_version` as `ver`: raising it in the row ends them all at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from flask_jwt_extended import create_access_token, create_refresh_token, decode_token
from flask_jwt_extended.exceptions import JWTExtendedException
from jwt import ExpiredSignatureError, PyJWTError

from core.errors import Unauthorized
from core.ids import Prefix, read_id, show_id
from core.settings import Settings

ALGORITHM = "HS256"
#: Who signs, and for whom: another service with the same secret makes no token for this one.
ISSUER = "bountycoder"
AUDIENCE = "bountycoder-api"


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """What a valid token says; whether its user still lives is the database's to say."""

    user_id: UUID
    version: int


def jwt_config(settings: Settings) -> dict[str, Any]:
    """Return what flask-jwt-extended is configured with."""
    return {
        "JWT_SECRET_KEY": settings.secret_key.get_secret_value(),
        "JWT_ALGORITHM": ALGORITHM,
        "JWT_DECODE_ALGORITHMS": [ALGORITHM],
        "JWT_ENCODE_ISSUER": ISSUER,
        "JWT_DECODE_ISSUER": ISSUER,
        "JWT_ENCODE_AUDIENCE": AUDIENCE,
        "JWT_DECODE_AUDIENCE": AUDIENCE,
        "JWT_ACCESS_TOKEN_EXPIRES": timedelta(minutes=settings.jwt_access_minutes),
        "JWT_REFRESH_TOKEN_EXPIRES": timedelta(days=settings.jwt_refresh_days),
        "JWT_TOKEN_LOCATION": ["headers"],
    }


def issue_tokens(user_id: UUID, version: int) -> tuple[str, str]:
    """Return an access token and a refresh token for a user."""
    identity = show_id(Prefix.USER, user_id)
    claims = {"ver": version}
    return (
        create_access_token(identity, additional_claims=claims),
        create_refresh_token(identity, additional_claims=claims),
    )


def read_token(token: str, *, kind: str = "access") -> TokenClaims:
    """Return the claims of a valid token of this kind.

    Raises:
        Unauthorized: `token_expired`, or `invalid_token` for everything else.
    """
    try:
        claims = decode_token(token)
    except ExpiredSignatureError:
        raise Unauthorized("the token has expired, sign in again", code="token_expired") from None
    except (PyJWTError, JWTExtendedException, ValueError):
        raise invalid_token() from None
    user_id = read_id(Prefix.USER, str(claims.get("sub")))
    version = claims.get("ver")
    if user_id is None or not isinstance(version, int):
        raise invalid_token()
    if "exp" not in claims or claims.get("type") != kind:
        raise invalid_token()
    return TokenClaims(user_id=user_id, version=version)


def invalid_token() -> Unauthorized:
    return Unauthorized("the token is not valid", code="invalid_token")
