"""The calls for API keys: create, list, change, rotate and delete."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from flask import Blueprint
from flask.typing import ResponseReturnValue
from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from api.auth.auditing import audit, change
from api.auth.authentication import authenticate_user
from api.auth.key_holds import check_state, holds_after
from api.auth.key_limits import (
    KeyLimitsBody,
    changed_limits,
    limits_of_new_key,
    max_monthly_tokens,
)
from api.batches.key_revocation import cancel_open_work, count_open_work
from api.http.body import read_body
from api.http.paging import read_page, serialize_page
from api.http.query import read_id_of
from api.openapi.operation import CallerKind, described
from api.openapi.parameters import id_query, paging
from api.openapi.refusals import FORBIDDEN, NOT_FOUND
from api.openapi.response import empty_response, json_response
from api.openapi.schemas import without_defaults
from api.responses.keys import KeyPageSchema, KeySchema, MadeKeySchema
from api.responses.serializers import serialize_key
from api.services import services
from core.errors import Forbidden, InvalidRequest, NotFound
from core.generation import Body, Flag, Text
from core.ids import Prefix, parse_id
from core.integer_field import Whole
from core.text.names import VISIBLE
from models.accounts.api_key import (
    ApiKey,
    count_keys,
    create_key,
    delete_key,
    find_key,
    list_keys,
    lock_key,
    rotate_secret,
)
from models.accounts.user import User, has_user, lock_user
from models.database.base import Session, database_now
from models.jobs.serializer import format_time
from models.usage.key_inheritance import Inheritance, find_inheritance, take_over

blueprint = Blueprint("keys", __name__, url_prefix="/api/keys")

LONGEST_LIFE = timedelta(days=36_500)
LONGEST_GRACE_SECONDS = 7 * 24 * 3600

#: A string; pydantic would read a number as seconds since 1970.
Moment = Annotated[AwareDatetime, Field(strict=True)]
KeyName = Annotated[Text, StringConstraints(max_length=200), VISIBLE]


class CreateKeyBody(KeyLimitsBody):
    name: KeyName
    expires_at: Moment | None = None
    user_id: str | None = None


class UpdateKeyBody(KeyLimitsBody):
    """The changes: only fields in the body change."""

    model_config = ConfigDict(json_schema_extra=without_defaults)

    name: KeyName = ""
    is_active: Flag = True
    expires_at: Moment | None = None


class RotateKeyBody(Body):
    grace_seconds: Annotated[int, Whole(ge=0, le=LONGEST_GRACE_SECONDS)] = 0


@blueprint.post("")
@described(
    CallerKind.USER,
    {201: json_response(MadeKeySchema, "the key and its secret")},
    FORBIDDEN,
    NOT_FOUND,
    body=CreateKeyBody,
)
def create() -> ResponseReturnValue:
    """Create a key. Its secret is returned only once."""
    body = read_body(CreateKeyBody)  # before the transaction, so that a slow client holds no lock
    with services().database.sessions.begin() as session:
        caller = authenticate_user(session)
        expires_at = _future(session, body.expires_at)
        owner = _owner(session, caller, body.user_id)
        left = find_inheritance(session, owner.id)
        limits = limits_of_new_key(body, services().settings, left.holds, is_admin=caller.is_admin)
        if not caller.is_admin:
            _check_count(session, owner)
        key, secret = create_key(
            session,
            user_id=owner.id,
            name=body.name,
            expires_at=expires_at,
            holds=_holds_of_new(caller, owner, body, left),
            **limits,  # type: ignore[arg-type]  # a rate limit is never `None`
        )
        take_over(session, key, left, room=max_monthly_tokens(services().settings, key))
        details = {"name": key.name, "expires_at": format_time(expires_at), **limits}
        audit(session, "key.create", actor=caller, target_id=key.id, details=details)
    return {**serialize_key(key), "secret": secret.text}, 201


@blueprint.get("")
@described(
    CallerKind.USER,
    {200: json_response(KeyPageSchema, "keys")},
    NOT_FOUND,
    parameters=(*paging(Prefix.KEY), id_query("userId", Prefix.USER, "only keys of this user")),
)
def index() -> ResponseReturnValue:
    """List the caller's keys, newest first; an admin gets all, or those of `?userId=`."""
    page = read_page(Prefix.KEY)
    wanted = read_id_of("userId", Prefix.USER)
    with services().database.sessions() as session:
        caller = authenticate_user(session)
        if wanted not in {None, caller.id} and not (
            caller.is_admin and wanted is not None and has_user(session, wanted)
        ):
            raise NotFound("there is no such user", param="userId")
        keys = list_keys(
            session,
            user_id=wanted if caller.is_admin else caller.id,
            after=page.after,
            limit=page.limit,
        )
    return serialize_page(keys, page, serialize_key)


@blueprint.get("/<key_id>")
@described(CallerKind.USER, {200: json_response(KeySchema, "the key")})
def show(key_id: str) -> ResponseReturnValue:
    """Return a key, without its secret."""
    with services().database.sessions() as session:
        caller = authenticate_user(session)
        wanted = parse_id(Prefix.KEY, key_id)
        found = find_key(session, wanted) if wanted else None
        return serialize_key(_visible(caller, found[0] if found else None))


@blueprint.put("/<key_id>")
@described(
    CallerKind.USER, {200: json_response(KeySchema, "the key")}, FORBIDDEN, body=UpdateKeyBody
)
def update(key_id: str) -> ResponseReturnValue:
    """Change the fields that are in the body.

    If the key is switched off, its jobs are cancelled and its batches pause until it is on again.
    Only an admin can lift what an admin switched off or lowered: see `setByAdmin`.
    """
    body = read_body(UpdateKeyBody)
    with services().database.sessions.begin() as session:
        caller, key = _locked_key(session, key_id)
        changes: dict[str, Any] = {
            name: getattr(body, name)
            for name in ("name", "is_active", "expires_at")
            if name in body.model_fields_set
        }
        if changes.get("expires_at") != key.expires_at:
            _future(session, changes.get("expires_at"))
        changes |= changed_limits(body, services().settings, key, is_admin=caller.is_admin)
        held = key.holds
        if caller.is_admin:
            is_own = key.user_id == caller.id
            key.holds = holds_after(held, changes, services().settings, is_own=is_own)
        else:
            check_state(key, changes)
        details = _apply(key, changes)
        if not details and key.holds != held:
            details["held"] = ", ".join(map(to_camel, key.holds)) or None
        has_ended = "is_active" in details and not key.is_active
        if has_ended:
            details |= count_open_work(session, key_id=key.id)
        if details:
            audit(session, "key.update", actor=caller, target_id=key.id, details=details)
    if has_ended:
        cancel_open_work(services())
    return serialize_key(key)


@blueprint.post("/<key_id>/rotate")
@described(
    CallerKind.USER,
    {200: json_response(MadeKeySchema, "the key and its new secret")},
    body=RotateKeyBody,
)
def rotate(key_id: str) -> ResponseReturnValue:
    """Create a new secret, returned only once; the old one works for `graceSeconds` more."""
    grace_seconds = read_body(RotateKeyBody).grace_seconds
    with services().database.sessions.begin() as session:
        caller, key = _locked_key(session, key_id)
        secret = rotate_secret(session, key, grace=timedelta(seconds=grace_seconds))
        details = {"grace_seconds": grace_seconds}
        audit(session, "key.rotate", actor=caller, target_id=key.id, details=details)
    return {**serialize_key(key), "secret": secret.text}


@blueprint.delete("/<key_id>")
@described(CallerKind.USER, {204: empty_response("the key is deleted")})
def delete(key_id: str) -> ResponseReturnValue:
    """Delete a key. Its usage is kept for billing and counts in the month of the next key.

    Its open jobs and batches are cancelled: running jobs end soon, waiting jobs cost nothing.
    """
    with services().database.sessions.begin() as session:
        caller, key = _locked_key(session, key_id)
        delete_key(session, key)
        details = {"name": key.name, **count_open_work(session, key_id=key.id)}
        audit(session, "key.delete", actor=caller, target_id=key.id, details=details)
    cancel_open_work(services())
    return "", 204


def _locked_key(session: Session, key_id: str) -> tuple[User, ApiKey]:
    """Return the caller and the key, with its row locked until the transaction ends."""
    caller = authenticate_user(session)
    wanted = parse_id(Prefix.KEY, key_id)
    found = find_key(session, wanted) if wanted else None
    key = _visible(caller, found[0] if found else None)
    return caller, _visible(caller, lock_key(session, key.id))


def _visible(caller: User, key: ApiKey | None) -> ApiKey:
    if key is None or not (caller.is_admin or key.user_id == caller.id):
        raise NotFound("there is no such key")
    return key


def _owner(session: Session, caller: User, owner_id: str | None) -> User:
    """Return the owner of the new key, with its row locked against deletion."""
    wanted: UUID | None = caller.id
    if owner_id is not None:
        wanted = parse_id(Prefix.USER, owner_id)
        if wanted != caller.id and not caller.is_admin:
            raise Forbidden("only an admin may create keys for other users", param="userId")
    owner = lock_user(session, wanted) if wanted else None
    if owner is None:
        raise NotFound("there is no such user", param="userId")
    return owner


def _holds_of_new(
    caller: User, owner: User, body: CreateKeyBody, left: Inheritance
) -> dict[str, Any]:
    """Return the holds on a new key: those of the admin, or those that the owner inherits."""
    if not caller.is_admin:
        return left.holds
    given = {name: getattr(body, name) for name in body.model_fields_set}
    return holds_after({}, given, services().settings, is_own=owner.id == caller.id)


def _check_count(session: Session, owner: User) -> None:
    at_most = services().settings.max_keys_per_user
    if count_keys(session, [owner.id]).get(owner.id, 0) >= at_most:
        raise Forbidden(f"you have {at_most} keys: only an admin may create more")


def _apply(key: ApiKey, changes: dict[str, Any]) -> dict[str, Any]:
    """Change the key and return the changes, for the audit trail."""
    details = {}
    for name, after in changes.items():
        before = getattr(key, name)
        if before != after:
            setattr(key, name, after)
            details[name] = change(_plain(before), _plain(after))
    return details


def _plain(value: Any) -> Any:
    return format_time(value) if isinstance(value, datetime) else value


def _future(session: Session, expires_at: datetime | None) -> datetime | None:
    if expires_at is None:
        return None
    now = database_now(session)
    if expires_at <= now:
        raise InvalidRequest("expiresAt must be in the future", param="expiresAt")
    if expires_at >= now + LONGEST_LIFE:
        raise InvalidRequest("expiresAt must be within the next 100 years", param="expiresAt")
    return expires_at
