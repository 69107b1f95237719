"""The call for the limits of a key."""

from __future__ import annotations

from typing import Any

from flask import Blueprint
from flask.typing import ResponseReturnValue

from api.auth.authentication import authenticate_key
from api.generation.polling import charge_poll
from api.openapi.operation import CallerKind, described
from api.openapi.refusals import TOO_MANY_POLLS
from api.openapi.response import json_response
from api.responses.keys import LimitsSchema
from api.services import services
from core.limits.state import LimitUse
from models.jobs.serializer import format_time

blueprint = Blueprint("limits", __name__, url_prefix="/api/limits")


@blueprint.get("")
@described(CallerKind.KEY, {200: json_response(LimitsSchema, "the limits")}, TOO_MANY_POLLS)
def show() -> ResponseReturnValue:
    """Return each limit of the key, the rest of it, and the time of its reset.

    The names are those of the key's fields. A `limit` of null means no limit.
    """
    with services().database.sessions() as session:
        key, _ = authenticate_key(session)
    charge_poll(services(), key.id)
    state = services().limits.limiter.read(key, recall=services().recall(key.id))
    return {
        "rateLimit": _serialize(state.requests),
        "tokenLimit": _serialize(state.tokens),
        "monthlyTokenLimit": _serialize(state.month),
        "maxInFlight": _serialize(state.in_flight),
    }


def _serialize(count: LimitUse) -> dict[str, Any]:
    return {
        "limit": count.limit,
        "used": count.used,
        "remaining": count.remaining,
        "resetsAt": format_time(count.resets_at),
    }
