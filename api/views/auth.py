"""The calls to register, sign in and out, and to change one's own password."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from flask import Blueprint
from flask.typing import ResponseReturnValue
from pydantic import StringConstraints

from api.auth.account_fields import (
    MAX_EMAIL_LENGTH,
    Email,
    GivenPassword,
    NewPassword,
    UserName,
    check_against_email,
)
from api.auth.auditing import audit
from api.auth.authentication import (
    authenticate_token,
    authenticate_user,
    check_active,
    signed_in_user,
)
from api.auth.current_password import check_current_password, password_user
from api.auth.tokens import invalid_token, issue_tokens, read_token
from api.http.body import read_body
from api.http.caller_address import caller_address
from api.openapi.operation import CallerKind, described
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
from api.openapi.response import empty_response, json_response
from api.responses.accounts import SignedInSchema, UserSchema
from api.responses.serializers import serialize_user
from api.services import services
from core.errors import Conflict, Forbidden, Unauthorized
from core.generation import Body, Text
from core.limits.throttle import login_rule, registration_rule
from core.passwords.pool import check_password, make_password_hash
from models.accounts.session import (
    RefusedRefresh,
    SessionKind,
    begin_session,
    end_session,
    end_sessions,
    number_of,
    refresh_session,
)
from models.accounts.user import User, create_user, find_user_by_email, lock_user
from models.database.base import Session

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
    CallerKind.ANYONE,
    {201: json_response(SignedInSchema, "the account, signed in")},
    FORBIDDEN,
    EMAIL_TAKEN,
    TOO_MANY_ATTEMPTS,
    OVERLOADED,
    body=RegisterBody,
)
def register() -> ResponseReturnValue:
    """Create a customer's account and sign it in."""
    if not services().settings.registration_open:
        raise Forbidden("registration is closed: ask an admin for an account")
    body = read_body(RegisterBody)
    check_against_email(body.password, body.email, param="password")
    rule = registration_rule(services().settings)
    with services().limits.throttle.attempt(rule, address=caller_address(), email=body.email):
        with services().database.sessions() as session:
            if find_user_by_email(session, body.email) is not None:
                raise Conflict("there is a user with this email", code="email_taken", param="email")
        password_hash = make_password_hash(body.password, user=password_user(body.email))
        with services().database.sessions.begin() as session:
            user = create_user(
                session, email=body.email, password_hash=password_hash, name=body.name
            )
            details = {"email": user.email, "name": user.name, "role": user.role}
            audit(session, "user.register", actor=user, target_id=user.id, details=details)
            return _begin_session(session, user), 201


@blueprint.post("/login")
@described(
    CallerKind.ANYONE,
    {200: json_response(SignedInSchema, "tokens")},
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
    with services().limits.throttle.attempt(
        rule, address=caller_address(), email=body.email
    ) as attempt:
        with services().database.sessions() as session:
            user = find_user_by_email(session, body.email)
        password_hash = user.password_hash if user else None
        is_right = check_password(password_hash, body.password, user=password_user(body.email))
        if user is None or not is_right:
            # Without the email of the request: it may be a password in the wrong field.
            with services().database.sessions.begin() as session:
                audit(session, "auth.login_failed", actor=None, target_id=user.id if user else None)
            raise Unauthorized("the email or the password is wrong", code="invalid_credentials")
        attempt.succeed()
    check_active(user)
    with services().database.sessions.begin() as session:
        return _begin_session(session, user)


@blueprint.post("/refresh")
@described(
    CallerKind.ANYONE,
    {200: json_response(SignedInSchema, "new tokens")},
    BAD_REFRESH_TOKEN,
    SUSPENDED,
    body=RefreshBody,
)
def refresh() -> ResponseReturnValue:
    """Exchange a refresh token for new tokens.

    Each refresh token can be used once. A second use, more than a few seconds after the first,
    ends the session: the token may be stolen.
    """
    claims = read_token(read_body(RefreshBody).refresh_token, kind="refresh")
    with services().database.sessions.begin() as session:
        user = signed_in_user(session, claims)
        if claims.session_id is None:
            return _begin_session(session, user)
        number = refresh_session(
            session, claims.session_id, number=claims.number, life=_refresh_life()
        )
        if number is RefusedRefresh.REUSED:
            audit(session, "auth.refresh_reused", actor=None, target_id=user.id)
    if isinstance(number, RefusedRefresh):
        raise invalid_token()
    return _signed_in(user, claims.session_id, number)


@blueprint.post("/logout")
@described(CallerKind.USER, {204: empty_response("the session has ended")})
def logout() -> ResponseReturnValue:
    """End the session of the token, with all its tokens."""
    with services().database.sessions.begin() as session:
        user, claims = authenticate_token(session)
        if claims.session_id is not None:
            end_session(session, claims.session_id)
        elif locked := lock_user(session, user.id):
            # A token without a session can only end together with all tokens of the user.
            locked.token_version += 1
    return "", 204


@blueprint.post("/change-password")
@described(
    CallerKind.USER,
    {200: json_response(SignedInSchema, "new tokens")},
    WRONG_CURRENT_PASSWORD,
    TOO_MANY_ATTEMPTS,
    OVERLOADED,
    body=ChangePasswordBody,
)
def change_password() -> ResponseReturnValue:
    """Set a new password. All earlier tokens end, and the response has new ones.

    This session continues with the new tokens; all other sessions end.
    """
    with services().database.sessions() as session:
        user, claims = authenticate_token(session)
    body = read_body(ChangePasswordBody)
    check_against_email(body.new_password, user.email, param="newPassword")
    check_current_password(user, body.current_password)
    password_hash = make_password_hash(body.new_password, user=password_user(user.email))
    with services().database.sessions.begin() as session:
        locked = lock_user(session, user.id)
        if locked is None or locked.token_version != user.token_version:
            raise invalid_token()  # a concurrent change came first
        locked.password_hash = password_hash
        locked.token_version += 1
        audit(session, "user.change_password", actor=locked, target_id=locked.id)
        end_sessions(session, locked.id, but=claims.session_id)
        if claims.session_id is None:
            return _begin_session(session, locked)
        return _signed_in(locked, claims.session_id, number_of(session, claims.session_id))


@blueprint.get("/me")
@described(CallerKind.USER, {200: json_response(UserSchema, "the user")})
def me() -> ResponseReturnValue:
    """Return the signed-in user."""
    with services().database.sessions() as session:
        return serialize_user(authenticate_user(session))


def _begin_session(session: Session, user: User) -> dict[str, object]:
    session_id = begin_session(session, user.id, SessionKind.API, life=_refresh_life())
    return _signed_in(user, session_id, 0)


def _refresh_life() -> timedelta:
    """Return the life of a session without a refresh: that of its longest token."""
    settings = services().settings
    access = timedelta(minutes=settings.jwt_access_minutes)
    return max(access, timedelta(days=settings.jwt_refresh_days))


def _signed_in(user: User, session_id: UUID, number: int) -> dict[str, object]:
    token, refresh_token = issue_tokens(
        user.id, user.token_version, session_id=session_id, number=number
    )
    return {"token": token, "refreshToken": refresh_token, "user": serialize_user(user)}
