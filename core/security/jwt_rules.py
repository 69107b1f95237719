"""The rules of our JWTs: one pinned algorithm, one issuer, one audience, and the claims.

The API issues JWTs at the sign-in. The admin UI makes one for each call that it sends to the API
for its user.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from core.config.settings import Settings

ALGORITHM = "HS256"
#: Issuer and audience: another service with the same secret cannot make a JWT for this one.
ISSUER = "bountycoder"
AUDIENCE = "bountycoder-api"
#: The user's `token_version`: increasing it in the row revokes all JWTs at once.
VERSION_CLAIM = "ver"
#: The session that the JWT belongs to and ends with.
SESSION_CLAIM = "sid"
#: The number of earlier refreshes of the session; only in a refresh token.
NUMBER_CLAIM = "num"
#: The address of the user for whom the admin UI calls; the audit trail records it.
ADDRESS_CLAIM = "addr"


def jwt_config(settings: Settings) -> dict[str, Any]:
    """Return the configuration for flask-jwt-extended."""
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
