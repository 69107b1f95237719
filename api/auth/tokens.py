"""Issues and reads JWTs: short-lived access tokens and refresh tokens.

`core/security/jwt_rules.py` has the rules for their signatures.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from flask_jwt_extended import create_access_token, create_refresh_token, decode_token
from flask_jwt_extended.exceptions import JWTExtendedException
from jwt import ExpiredSignatureError, PyJWTError

from core.errors import Unauthorized
from core.ids import Prefix, format_id, parse_id
from core.security.jwt_rules import ADDRESS_CLAIM, NUMBER_CLAIM, SESSION_CLAIM, VERSION_CLAIM


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """The claims of a valid token; only the database knows whether its user still exists.

    Attributes:
        session_id: `None` in tokens of versions without sessions.
        number: the number of a refresh token within its session.
        address: the user's address, if one of our programs calls on their behalf.
    """

    user_id: UUID
    version: int
    session_id: UUID | None
    number: int
    address: str | None


def issue_tokens(user_id: UUID, version: int, *, session_id: UUID, number: int) -> tuple[str, str]:
    """Return an access token, and the refresh token with this number, of a session."""
    identity = format_id(Prefix.USER, user_id)
    claims = {VERSION_CLAIM: version, SESSION_CLAIM: format_id(Prefix.SESSION, session_id)}
    return (
        create_access_token(identity, additional_claims=claims),
        create_refresh_token(identity, additional_claims={**claims, NUMBER_CLAIM: number}),
    )


def read_token(token: str, *, kind: str = "access") -> TokenClaims:
    """Return the claims of a valid token of this kind.

    Raises:
        Unauthorized: `token_expired`, or `invalid_token` for all other faults.
    """
    try:
        claims = decode_token(token)
    except ExpiredSignatureError:
        raise Unauthorized("the token has expired, sign in again", code="token_expired") from None
    except (PyJWTError, JWTExtendedException, ValueError):
        raise invalid_token() from None
    user_id = parse_id(Prefix.USER, str(claims.get("sub")))
    version = claims.get(VERSION_CLAIM)
    if user_id is None or not isinstance(version, int):
        raise invalid_token()
    if "exp" not in claims or claims.get("type") != kind:
        raise invalid_token()
    named, number = claims.get(SESSION_CLAIM), claims.get(NUMBER_CLAIM, 0)
    session_id = parse_id(Prefix.SESSION, str(named))
    if (named is not None and session_id is None) or not isinstance(number, int):
        raise invalid_token()
    address = claims.get(ADDRESS_CLAIM)
    return TokenClaims(
        user_id=user_id,
        version=version,
        session_id=session_id,
        number=number,
        address=address if isinstance(address, str) else None,
    )


def invalid_token() -> Unauthorized:
    """Return the error for a token that is not valid."""
    return Unauthorized("the token is not valid: sign in again", code="invalid_token")
