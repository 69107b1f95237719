"""Finds the credential of a request, and explains one that is missing, misplaced or malformed.

No message repeats the credential: it may be a secret.
"""

from __future__ import annotations

from flask import request

from core.errors import Unauthorized

#: The first characters of every key.
KEY_START = "bc_"
SEND_KEY = "send an API key as `Authorization: Bearer bc_…` or `x-api-key: bc_…`"
SEND_JWT = "send the token of POST /api/auth/login as `Authorization: Bearer <jwt>`"
#: Headers and parameters for keys of other services, which this one does not read.
_OTHER_HEADERS = ("api-key", "apikey", "x-api-token", "x-auth-token")
_OTHER_PARAMETERS = ("api_key", "api-key", "apikey", "access_token", "token")


def presented_secret() -> str | None:
    """Return the secret of a key that the request has, if any."""
    header = request.headers.get("x-api-key")
    if header:
        return header
    token = _bearer()
    return token if token is not None and token.startswith(KEY_START) else None


def presented_jwt(*, takes_key: bool) -> str:
    """Return the JWT of the request.

    Args:
        takes_key: the call also accepts a key; the error for no credential then mentions keys.

    Raises:
        Unauthorized: there is no JWT, or it is malformed.
    """
    token = _bearer()
    if token is None:
        raise _misplaced(takes_key) or Unauthorized(_what_to_send(takes_key))
    if token.startswith(KEY_START):
        raise Unauthorized(
            f"this call requires a JWT, not an API key: {SEND_JWT}", code="invalid_token"
        )
    if fault := _fault(token):
        raise Unauthorized(fault, code=_bad_code())
    return token


def invalid_key(secret: str) -> Unauthorized:
    """Return the error for a secret that belongs to no key."""
    text = "the API key is not valid: it is mistyped, replaced or deleted"
    if not secret.startswith(KEY_START):
        text = f"the API key is not valid: keys begin with `{KEY_START}`"
    return Unauthorized(text, code="invalid_api_key")


def _bearer() -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _misplaced(takes_key: bool) -> Unauthorized | None:
    """Return the error for a credential in the wrong place; `None` if there is none."""
    where = _misplacement()
    if where is None:
        return None
    code = "invalid_api_key" if _is_v1() else "missing_credentials"
    return Unauthorized(f"{where}: {_what_to_send(takes_key)}", code=code)


def _misplacement() -> str | None:
    given = request.headers.get("Authorization", "").strip()
    scheme = given.partition(" ")[0].lower()
    if given.strip("\"'").startswith(KEY_START):
        return "the word `Bearer` is missing before the API key"
    if _may_be_jwt(given):
        return "the word `Bearer` is missing before the JWT"
    if scheme == "bearer":
        return "the credential is missing after the word `Bearer`"
    if given:
        kind = "Basic" if scheme == "basic" else "this kind of"
        return f"{kind} `Authorization` is not supported"
    for name in _OTHER_HEADERS:
        if name in request.headers:
            return f"the header `{name}` is not read"
    for name, value in request.args.items():
        if name.lower() in _OTHER_PARAMETERS or value.startswith(KEY_START):
            return "a credential in the URL is not read, and logs may store it"
    return None


def _fault(token: str) -> str | None:
    """Return the fault in the form of a token that is not a key, if any."""
    if token.lower().startswith("bearer "):
        return "the word `Bearer` stands twice in `Authorization`"
    if token[0] in "\"'`<":
        return "leave out the quotation marks or brackets around the API key or JWT"
    if not _may_be_jwt(token):
        start = f"API keys begin with `{KEY_START}`"
        return f"this is neither an API key nor a JWT: {start}, JWTs come from POST /api/auth/login"
    return None


def _may_be_jwt(token: str) -> bool:
    return token.count(".") == 2 and " " not in token


def _what_to_send(takes_key: bool) -> str:
    if not takes_key:
        return SEND_JWT
    return SEND_KEY if _is_v1() else f"{SEND_KEY}, or a JWT with the id of your key"


def _bad_code() -> str:
    return "invalid_api_key" if _is_v1() else "invalid_token"


def _is_v1() -> bool:
    """Return whether the call is for OpenAI's clients, which only have keys."""
    return (request.blueprint or "").startswith("v1_")
