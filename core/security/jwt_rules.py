"""How our JWTs are signed and what they must carry: one pinned algorithm, one issuer, one audience.

The API issues them to those who sign in; the admin UI makes one for each call that it sends to the
API for the person at the page.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from core.config.settings import Settings

ALGORITHM = "HS256"
#: Who signs, and for whom: another service with the same secret makes no token for this one.
ISSUER = "bountycoder"
AUDIENCE = "bountycoder-api"
#: The user's `token_version`: raising it in the row ends all tokens at once.
VERSION_CLAIM = "ver"
#: Which session it belongs to, and ends with.
SESSION_CLAIM = "sid"
#: Of a refresh token: how many refreshes of its session were before it.
NUMBER_CLAIM = "num"
#: Where the person is that a program of ours calls for; the audit trail names this address.
ADDRESS_CLAIM = "addr"


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
