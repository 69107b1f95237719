"""The calls for users: admins create, change and delete them; users change their own data."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Blueprint
from flask.typing import ResponseReturnValue
from pydantic import ConfigDict

from api.auth.account_fields import (
    MAX_EMAIL_LENGTH,
    Email,
    GivenPassword,
    NewPassword,
    UserName,
    check_against_email,
)
from api.auth.auditing import audit, change
from api.auth.authentication import authenticate_admin, authenticate_user
from api.auth.current_password import check_current_password, password_user
from api.batches.key_revocation import cancel_open_work, count_open_work
from api.http.body import read_body
from api.http.paging import read_page, serialize_page
from api.http.query import read_text
from api.openapi.operation import CallerKind, described
from api.openapi.parameters import paging, text_query
from api.openapi.refusals import (
    EMAIL_TAKEN,
    FORBIDDEN,
    LAST_ADMIN,
    OVERLOADED,
    TOO_MANY_ATTEMPTS,
    WRONG_CURRENT_PASSWORD,
)
from api.openapi.response import empty_response, json_response
from api.openapi.schemas import without_defaults
from api.responses.accounts import ListedUserSchema, UserPageSchema
from api.responses.serializers import serialize_user
from api.services import services
from core.errors import Conflict, Forbidden, InvalidRequest, NotFound
from core.generation import Body, Flag
from core.ids import Prefix, parse_id
from core.passwords.pool import make_password_hash
from models.accounts.api_key import count_keys, delete_keys_of
from models.accounts.session import end_sessions
from models.accounts.user import (
    Role,
    User,
    create_user,
    delete_user,
    find_user,
    flush_email,
    list_users,
    lock_admins,
    lock_user,
)
from models.database.base import Session

blueprint = Blueprint("users", __name__, url_prefix="/api/users")


#: Fields whose change could leave no active admin.
_OF_ADMINS = frozenset({"role", "is_active"})


class CreateUserBody(Body):
    email: Email
    password: NewPassword
    name: UserName = ""
    role: Role = Role.CUSTOMER


class UpdateUserBody(Body):
    """The changes: only fields in the body change.

    Attributes:
        is_active: false suspends the user: tokens and keys are refused, open jobs are cancelled
            and open batches pause. Only an admin may set it.
    """

    model_config = ConfigDict(json_schema_extra=without_defaults)

    email: Email = ""
    name: UserName = ""
    password: NewPassword = ""
    role: Role = Role.CUSTOMER
    is_active: Flag = True
    current_password: GivenPassword = ""


@blueprint.get("")
@described(
    CallerKind.ADMIN,
    {200: json_response(UserPageSchema, "users")},
    parameters=(
        *paging(Prefix.USER),
        text_query("q", MAX_EMAIL_LENGTH, "the beginning of the email or the name"),
    ),
)
def index() -> ResponseReturnValue:
    """List users, newest first; `?q=` is the beginning of their email or name."""
    page = read_page(Prefix.USER)
    search = read_text("q", max_length=MAX_EMAIL_LENGTH)
    with services().database.sessions() as session:
        authenticate_admin(session)
        users = list_users(session, search=search, after=page.after, limit=page.limit)
        counts = count_keys(session, [user.id for user in users.rows])
    return serialize_page(users, page, lambda user: _serialize(user, counts.get(user.id, 0)))


@blueprint.post("")
@described(
    CallerKind.ADMIN,
    {201: json_response(ListedUserSchema, "the user")},
    EMAIL_TAKEN,
    TOO_MANY_ATTEMPTS,
    OVERLOADED,
    body=CreateUserBody,
)
def create() -> ResponseReturnValue:
    """Create a user, who can be an admin."""
    with services().database.sessions() as session:
        admin = authenticate_admin(session)
    body = read_body(CreateUserBody)
    check_against_email(body.password, body.email, param="password")
    password_hash = make_password_hash(body.password, user=password_user(admin.email))
    with services().database.sessions.begin() as session:
        admin = authenticate_admin(session)
        user = create_user(
            session, email=body.email, password_hash=password_hash, name=body.name, role=body.role
        )
        details = {"email": user.email, "name": user.name, "role": user.role}
        audit(session, "user.create", actor=admin, target_id=user.id, details=details)
    return _serialize(user, 0), 201


@blueprint.get("/<user_id>")
@described(CallerKind.USER, {200: json_response(ListedUserSchema, "the user")})
def show(user_id: str) -> ResponseReturnValue:
    """Return a user."""
    with services().database.sessions() as session:
        user = _visible(session, authenticate_user(session), user_id)
        return _serialize(user, count_keys(session, [user.id]).get(user.id, 0))


@blueprint.put("/<user_id>")
@described(
    CallerKind.USER,
    {200: json_response(ListedUserSchema, "the user")},
    FORBIDDEN,
    EMAIL_TAKEN,
    LAST_ADMIN,
    WRONG_CURRENT_PASSWORD,
    TOO_MANY_ATTEMPTS,
    OVERLOADED,
    body=UpdateUserBody,
)
def update(user_id: str) -> ResponseReturnValue:
    """Change the fields that are in the body. A new role or password ends the user's tokens.

    To change your own email, send your password as `currentPassword`.
    A user whose `isActive` is false is suspended until it is true again.
    """
    with services().database.sessions() as session:
        caller = authenticate_user(session)
        user = _visible(session, caller, user_id)
    body = read_body(UpdateUserBody)
    _check_email_change(caller, user, body)
    password_hash = None
    if "password" in body.model_fields_set:
        check_against_email(body.password, body.email or user.email, param="password")
        password_hash = make_password_hash(body.password, user=password_user(caller.email))
    with services().database.sessions.begin() as session:
        caller = authenticate_user(session)
        admins = lock_admins(session) if body.model_fields_set & _OF_ADMINS else []
        user = _locked(session, caller, user_id)
        _check_update(caller, user, body, admins)
        version = user.token_version
        details = _apply(user, body, password_hash)
        if user.token_version != version:
            end_sessions(session, user.id)
        flush_email(session)
        has_ended = "is_active" in details and not user.is_active
        if has_ended:
            details |= count_open_work(session, user_id=user.id)
        if details:
            audit(session, "user.update", actor=caller, target_id=user.id, details=details)
        keys = count_keys(session, [user.id]).get(user.id, 0)
    if has_ended:
        cancel_open_work(services())
    return _serialize(user, keys)


@blueprint.delete("/<user_id>")
@described(CallerKind.USER, {204: empty_response("the user is deleted")}, FORBIDDEN, LAST_ADMIN)
def delete(user_id: str) -> ResponseReturnValue:
    """Delete a user and all their keys. The usage is kept for billing.

    Their open jobs and batches are cancelled: running jobs end soon, waiting jobs cost nothing.
    """
    with services().database.sessions.begin() as session:
        caller = authenticate_user(session)
        _visible(session, caller, user_id)
        if not caller.is_admin:
            raise Forbidden("only an admin may delete a user")
        admins = lock_admins(session)
        user = _locked(session, caller, user_id)
        if admins == [user.id]:
            raise _last_admin("deleted")
        delete_user(session, user)
        keys = delete_keys_of(session, user.id)
        details = {"email": user.email, "role": user.role, "keys": keys}
        end_sessions(session, user.id)
        details |= count_open_work(session, user_id=user.id)
        audit(session, "user.delete", actor=caller, target_id=user.id, details=details)
    cancel_open_work(services())
    return "", 204


def _check_email_change(caller: User, user: User, body: UpdateUserBody) -> None:
    """Require the password to change one's own email: a stolen token is not enough."""
    is_own_change = "email" in body.model_fields_set and body.email != user.email
    if not is_own_change or caller.id != user.id:
        return
    if not body.current_password:
        raise InvalidRequest(
            "changing your own email needs your password as currentPassword",
            param="currentPassword",
        )
    check_current_password(user, body.current_password)


def _check_update(caller: User, user: User, body: UpdateUserBody, admins: list[UUID]) -> None:
    fields = body.model_fields_set
    if "role" in fields and not caller.is_admin:
        raise Forbidden("only an admin may set a role", param="role")
    if "is_active" in fields and not caller.is_admin and body.is_active != user.is_active:
        raise Forbidden("only an admin may suspend a user", param="isActive")
    if "password" in fields and caller.id == user.id:
        raise InvalidRequest(
            "change your own password with POST /api/auth/change-password", param="password"
        )
    if "role" in fields and body.role is not Role.ADMIN and admins == [user.id]:
        raise _last_admin("demoted")
    if "is_active" in fields and not body.is_active and admins == [user.id]:
        raise _last_admin("suspended")


def _apply(user: User, body: UpdateUserBody, password_hash: str | None) -> dict[str, Any]:
    """Change the user and return the changes, for the audit trail."""
    details: dict[str, Any] = {}
    for name in sorted(body.model_fields_set - {"password", "current_password"}):
        before, after = getattr(user, name), getattr(body, name)
        if before != after:
            setattr(user, name, after)
            details[name] = change(before, after)
    if password_hash is not None:
        user.password_hash = password_hash
        details["password"] = "changed"  # noqa: S105 - no secret
    if not details.keys().isdisjoint({"role", "password"}):
        user.token_version += 1
    return details


def _visible(session: Session, caller: User, user_id: str) -> User:
    """Return the user if the caller may see them."""
    wanted = _wanted(caller, user_id)
    user = find_user(session, wanted) if wanted else None
    if user is None:
        raise _no_such_user()
    return user


def _locked(session: Session, caller: User, user_id: str) -> User:
    wanted = _wanted(caller, user_id)
    user = lock_user(session, wanted) if wanted else None
    if user is None:
        raise _no_such_user()
    return user


def _wanted(caller: User, user_id: str) -> UUID | None:
    wanted = parse_id(Prefix.USER, user_id)
    return wanted if caller.is_admin or caller.id == wanted else None


def _no_such_user() -> NotFound:
    return NotFound("there is no such user")


def _last_admin(what: str) -> Conflict:
    return Conflict(f"the last admin cannot be {what}", code="last_admin")


def _serialize(user: User, keys: int) -> dict[str, Any]:
    return {**serialize_user(user), "keyCount": keys}
