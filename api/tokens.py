"""JWTs: short-lived access tokens and refresh tokens, signed as `core/jwt_rules.py` says."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from flask_jwt_extended import create_access_token, create_refresh_token, decode_token
from flask_jwt_extended.exceptions import JWTExtendedException
from jwt import ExpiredSignatureError, PyJWTError

from core.errors import Unauthorized
from core.ids import Prefix, read_id, show_id
from core.jwt_rules import ADDRESS_CLAIM, VERSION_CLAIM


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """What a valid token says; whether its user still lives is the database's to say.

    Attributes:
        address: where the user is, if a program of ours calls for them.
    """

    user_id: UUID
    version: int
    address: str | None


def issue_tokens(user_id: UUID, version: int) -> tuple[str, str]:
    """Return an access token and a refresh token for a user."""
    identity = show_id(Prefix.USER, user_id)
    claims = {VERSION_CLAIM: version}
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
    version = claims.get(VERSION_CLAIM)
    if user_id is None or not isinstance(version, int):
        raise invalid_token()
    if "exp" not in claims or claims.get("type") != kind:
        raise invalid_token()
    address = claims.get(ADDRESS_CLAIM)
    return TokenClaims(
        user_id=user_id,
        version=version,
        address=address if isinstance(address, str) else None,
    )


def invalid_token() -> Unauthorized:
    return Unauthorized("the token is not valid", code="invalid_token")
