"""Registering, signing in, and a user's own password."""

from __future__ import annotations

from typing import Annotated

from flask import Blueprint
from flask.typing import ResponseReturnValue
from pydantic import StringConstraints

from api.account_fields import MAX_EMAIL_LENGTH, Email, GivenPassword, NewPassword, UserName
from api.answers.accounts import ShownUser, SignedIn
from api.auditing import note
from api.authentication import authenticate_user, check_active, living_user
from api.body import read_body
from api.caller_address import caller_address
from api.openapi.answer import shows
from api.openapi.operation import Who, described
from api.openapi.refusals import (
    BAD_REFRESH_TOKEN,
    EMAIL_TAKEN,
    FORBIDDEN,
    OVERLOADED,
    SUSPENDED,
    TOO_MANY_ATTEMPTS,
    WRONG_CURRENT_PASSWORD,
    WRONG_PASSWORD,
)
from api.representations import show_user
from api.services import services
from api.tokens import invalid_token, issue_tokens, read_token
from core.errors import Conflict, Forbidden, Unauthorized
from core.generation import Body, Text
from core.password_work import check_password, make_password_hash
from core.settings import Settings
from core.throttle import ThrottleRule, login_rule
from models.user import User, create_user, find_user_by_email, lock_user

blueprint = Blueprint("auth", __name__, url_prefix="/api/auth")


class RegisterBody(Body):
    email: Email
    password: NewPassword
    name: UserName = ""


class LoginBody(Body):
    email: Annotated[Text, StringConstraints(max_length=MAX_EMAIL_LENGTH)]
    password: GivenPassword


class RefreshBody(Body):
    refresh_token: Text


class ChangePasswordBody(Body):
    current_password: GivenPassword
    new_password: NewPassword


@blueprint.post("/register")
@described(
    Who.ANYONE,
    {201: shows(SignedIn, "the account, signed in")},
    FORBIDDEN,
    EMAIL_TAKEN,
    TOO_MANY_ATTEMPTS,
    OVERLOADED,
    body=RegisterBody,
)
def register() -> ResponseReturnValue:
    """Make a customer's account and sign it in."""
    if not services().settings.registration_open:
        raise Forbidden("registration is closed, ask an admin for an account")
    body = read_body(RegisterBody)
    rule = _registration_rule(services().settings)
    with services().throttle.attempt(rule, address=caller_address(), email=body.email):
        with services().sessions() as session:
            if find_user_by_email(session, body.email) is not None:
                raise Conflict("there is a user with this email", code="email_taken", param="email")
        password_hash = make_password_hash(body.password)
        with services().sessions.begin() as session:
            user = create_user(
                session, email=body.email, password_hash=password_hash, name=body.name
            )
            details = {"email": user.email, "name": user.name, "role": user.role}
            note(session, "user.register", actor=user, target_id=user.id, details=details)
    return _signed_in(user), 201


@blueprint.post("/login")
@described(
    Who.ANYONE,
    {200: shows(SignedIn, "tokens")},
    WRONG_PASSWORD,
    SUSPENDED,
    TOO_MANY_ATTEMPTS,
    OVERLOADED,
    body=LoginBody,
)
def login() -> ResponseReturnValue:
    """Exchange an email and a password for tokens."""
    body = read_body(LoginBody)
    rule = login_rule(services().settings)
    with services().throttle.attempt(rule, address=caller_address(), email=body.email) as attempt:
        with services().sessions() as session:
            user = find_user_by_email(session, body.email)
        is_right = check_password(user.password_hash if user else None, body.password)
        if user is None or not is_right:
            # Without the email that was given: it may be a password in the wrong field.
            with services().sessions.begin() as session:
                note(session, "auth.login_failed", actor=None, target_id=user.id if user else None)
            raise Unauthorized("the email or the password is wrong", code="invalid_credentials")
        attempt.succeed()
    check_active(user)
    return _signed_in(user)


@blueprint.post("/refresh")
@described(
    Who.ANYONE, {200: shows(SignedIn, "new tokens")}, BAD_REFRESH_TOKEN, SUSPENDED, body=RefreshBody
)
def refresh() -> ResponseReturnValue:
    """Exchange a refresh token for new tokens."""
    claims = read_token(read_body(RefreshBody).refresh_token, kind="refresh")
    with services().sessions() as session:
        user = living_user(session, claims.user_id, claims.version)
    return _signed_in(user)


@blueprint.post("/change-password")
@described(
    Who.USER,
    {200: shows(SignedIn, "new tokens")},
    WRONG_CURRENT_PASSWORD,
    TOO_MANY_ATTEMPTS,
    OVERLOADED,
    body=ChangePasswordBody,
)
def change_password() -> ResponseReturnValue:
    """Set a new password: every token made before ends, and the answer has new ones."""
    with services().sessions() as session:
        user = authenticate_user(session)
    body = read_body(ChangePasswordBody)
    rule = login_rule(services().settings)
    with services().throttle.attempt(rule, address=caller_address(), email=user.email) as attempt:
        if not check_password(user.password_hash, body.current_password):
            raise Forbidden("the current password is wrong", code="invalid_credentials")
        password_hash = make_password_hash(body.new_password)
        with services().sessions.begin() as session:
            locked = lock_user(session, user.id)
            if locked is None or locked.token_version != user.token_version:
                raise invalid_token()  # another change was faster
            locked.password_hash = password_hash
            locked.token_version += 1
            note(session, "user.change_password", actor=locked, target_id=locked.id)
        attempt.succeed()
    return _signed_in(locked)


@blueprint.get("/me")
@described(Who.USER, {200: shows(ShownUser, "the user")})
def me() -> ResponseReturnValue:
    """Return the signed-in user."""
    with services().sessions() as session:
        return show_user(authenticate_user(session))


def _registration_rule(settings: Settings) -> ThrottleRule:
    return ThrottleRule(
        "registration",
        per_address=settings.registration_attempts_per_address,
        per_email=settings.registration_attempts_per_email,
        window_seconds=settings.registration_window_seconds,
    )


def _signed_in(user: User) -> dict[str, object]:
    token, refresh_token = issue_tokens(user.id, user.token_version)
    return {"token": token, "refreshToken": refresh_token, "user": show_user(user)}
