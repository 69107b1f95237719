"""Credentials: tokens, and the cookies and forms of the admin UI."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from flask import session
from flask_jwt_extended import create_access_token

from admin_ui.web.csrf import _check as check_csrf
from admin_ui.web.errors import FormExpired
from api.auth.tokens import read_token
from core.errors import Unauthorized
from core.ids import Prefix, format_id, new_id
from tests.fuzz.programs import admin_app, api_app, requested
from tests.fuzz.target import Target, fields, refusals_are_fine


def _token(data: bytes) -> None:
    """Read a token. Untrusted bytes are never a valid one, since only we can sign."""
    (token,) = fields(data, 1)
    with requested(api_app()):
        for kind in ("access", "refresh"):
            try:
                read_token(token, kind=kind)
            except Unauthorized as refusal:
                assert refusal.code in {"invalid_token", "token_expired"}
            else:
                raise AssertionError("a forged token was accepted")


def _claims(data: bytes) -> None:
    """Read a token with a valid signature and any claims, as another program might sign."""
    try:
        claims = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(claims, dict):
        return
    with requested(api_app()), refusals_are_fine():
        try:
            token = create_access_token("x", additional_claims=claims)
        except (TypeError, ValueError, OverflowError, RecursionError):
            return  # PyJWT does not sign such claims
        assert isinstance(read_token(token).version, int)


def _cookie(data: bytes) -> None:
    """Send a session that we did not sign. It is empty, and its forms are refused."""
    cookie, form = fields(data, 2)
    with requested(
        admin_app(),
        method="POST",
        headers={"cookie": cookie},
        body=form.encode("latin-1"),
        content_type="application/x-www-form-urlencoded",
    ):
        assert not session
        try:
            check_csrf()
        except FormExpired:
            return
        raise AssertionError("a forged form was accepted")


def _made(**header: Any) -> bytes:
    now = int(datetime.now(UTC).timestamp())
    claims = {
        "sub": format_id(Prefix.USER, new_id()),
        "ver": 1,
        "type": "access",
        "iat": now,
        "exp": now + 900,
        "iss": "bountycoder",
        "aud": "bountycoder-api",
    }
    parts = (json.dumps(part).encode() for part in ({"typ": "JWT", **header}, claims))
    return b".".join([*(base64.urlsafe_b64encode(p).rstrip(b"=") for p in parts), b"c2ln"])


TARGETS = (
    Target(
        "tokens",
        _token,
        (
            _made(alg="HS256"),
            _made(alg="none"),
            _made(alg="none").removesuffix(b"c2ln"),
            _made(alg="RS256", jwk={"kty": "RSA"}, kid="../../dev/null", crit=["exp"], b64=False),
        ),
        (b".", b"=", b"eyJhbGciOiJub25lIn0", b"bnVsbA", b"W10", b"MQ", b"\xff"),
    ),
    Target(
        "claims",
        _claims,
        (
            json.dumps({"sub": "user_" + "0" * 32, "ver": 1, "addr": "::1", "type": "x"}).encode(),
            json.dumps({"exp": 2**70, "nbf": None, "iat": "1", "aud": ["a"], "iss": 1}).encode(),
        ),
        [f'"{name}":'.encode() for name in ("sub", "ver", "exp", "nbf", "iat", "aud", "jti")]
        + [b"1e400", b"NaN", b"[]", b"{}", b"null", b"9" * 400, b'"\\ud800"'],
    ),
    Target(
        "cookies",
        _cookie,
        (
            b"bountycoder_session=eyJ1c2VyIjoiYSJ9.aSYc7A.c2lnbmF0dXJlc2lnbmF0dXJl\ncsrf_token=a",
            b"bountycoder_session=.eJwrLU4tAgAEiQGN.aSYc7A.x; a=b\n_csrf_token=&csrf_token=",
        ),
        (b"bountycoder_session=", b".", b"; ", b"csrf_token=", b'"', b"\\054", b"%00"),
    ),
)
