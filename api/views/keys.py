"""API keys: make one, list them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from flask import Blueprint, request
from flask.typing import ResponseReturnValue
from pydantic import AwareDatetime, Field, StringConstraints

from api.authentication import authenticate_user
from api.body import read_body
from api.paging import read_page, show_page
from api.representations import show_key
from api.services import services
from core.errors import Forbidden, InvalidRequest, NotFound
from core.generation import Body, Text
from core.ids import Prefix, read_id
from models.api_key import create_key, list_keys
from models.audit import record_audit
from models.base import Session, utc_now
from models.user import User, find_user

blueprint = Blueprint("keys", __name__, url_prefix="/api/keys")

MAX_RATE_LIMIT = 1_000_000
MAX_PRIORITY = 100
LONGEST_LIFE = timedelta(days=36_500)


class CreateKeyBody(Body):
    name: Annotated[Text, StringConstraints(max_length=200)]
    rate_limit: Annotated[int, Field(ge=1, le=MAX_RATE_LIMIT)] | None = None
    priority: Annotated[int, Field(ge=1, le=MAX_PRIORITY)] = 1
    expires_at: AwareDatetime | None = None
    user_id: str | None = None


@blueprint.post("")
def create() -> ResponseReturnValue:
    """Make a key and show its secret, this once."""
    body = read_body(CreateKeyBody)
    default = services().settings.default_rate_limit
    rate_limit = default if body.rate_limit is None else body.rate_limit
    with services().sessions.begin() as session:
        user = authenticate_user(session)
        if rate_limit > default and not user.is_admin:
            raise Forbidden(f"only an admin may set a rateLimit above {default}")
        if body.priority != 1 and not user.is_admin:
            raise Forbidden("only an admin may set a priority")
        owner = _owner(session, user, body.user_id)
        key, secret = create_key(
            session,
            user_id=owner.id,
            name=body.name,
            rate_limit=rate_limit,
            priority=body.priority,
            expires_at=_future(body.expires_at),
        )
        record_audit(
            session,
            action="key.create",
            actor_id=user.id,
            target_id=key.id,
            address=request.remote_addr or "",
            details={"name": body.name, "rateLimit": rate_limit, "priority": body.priority},
        )
    return {**show_key(key), "secret": secret.text}, 201


@blueprint.get("")
def index() -> ResponseReturnValue:
    """List the caller's keys, or for an admin everyone's, newest first."""
    page = read_page(Prefix.KEY)
    with services().sessions() as session:
        user = authenticate_user(session)
        keys = list_keys(
            session,
            user_id=None if user.is_admin else user.id,
            after=page.after,
            limit=page.limit + 1,
        )
    return show_page(keys, page, show_key)


def _owner(session: Session, user: User, owner_id: str | None) -> User:
    if owner_id is None:
        return user
    wanted = read_id(Prefix.USER, owner_id)
    if wanted == user.id:
        return user
    if not user.is_admin:
        raise Forbidden("only an admin may make keys for others")
    owner = find_user(session, wanted) if wanted else None
    if owner is None:
        raise NotFound("there is no such user", param="userId")
    return owner


def _future(expires_at: datetime | None) -> datetime | None:
    now = utc_now()
    if expires_at is not None and not now < expires_at < now + LONGEST_LIFE:
        raise InvalidRequest("expiresAt must be within the next 100 years", param="expiresAt")
    return expires_at
