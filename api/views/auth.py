"""Signing in."""

from __future__ import annotations

from typing import Annotated

from flask import Blueprint
from flask.typing import ResponseReturnValue
from pydantic import Field

from api.authentication import authenticate_user, living_user
from api.body import read_body
from api.representations import show_user
from api.services import services
from api.tokens import issue_tokens, read_token
from core.blocking import run_blocking
from core.errors import Unauthorized
from core.generation import Body, Text
from core.passwords import MAX_PASSWORD_LENGTH, is_password_of
from models.user import User, find_user_by_email

blueprint = Blueprint("auth", __name__, url_prefix="/api/auth")


class LoginBody(Body):
    email: Text
    password: Annotated[str, Field(min_length=1, max_length=MAX_PASSWORD_LENGTH)]


class RefreshBody(Body):
    refresh_token: Text


@blueprint.post("/login")
def login() -> ResponseReturnValue:
    """Exchange an email and a password for tokens."""
    body = read_body(LoginBody)
    with services().sessions() as session:
        user = find_user_by_email(session, body.email)
    password_hash = user.password_hash if user else None
    if not run_blocking(is_password_of, password_hash, body.password) or user is None:
        raise Unauthorized("the email or the password is wrong", code="invalid_credentials")
    return _signed_in(user)


@blueprint.post("/refresh")
def refresh() -> ResponseReturnValue:
    """Exchange a refresh token for new tokens."""
    claims = read_token(read_body(RefreshBody).refresh_token, kind="refresh")
    with services().sessions() as session:
        user = living_user(session, claims.user_id, claims.version)
    return _signed_in(user)


@blueprint.get("/me")
def me() -> ResponseReturnValue:
    """Return the signed-in user."""
    with services().sessions() as session:
        return show_user(authenticate_user(session))


def _signed_in(user: User) -> ResponseReturnValue:
    token, refresh_token = issue_tokens(user.id, user.token_version)
    return {"token": token, "refreshToken": refresh_token, "user": show_user(user)}
