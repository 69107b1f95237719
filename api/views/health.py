"""Is this process alive, and can the service take work."""

from __future__ import annotations

import redis
from flask import Blueprint
from flask.typing import ResponseReturnValue

from api.answers.service import Alive, Readiness
from api.openapi.answer import shows
from api.openapi.operation import Who, described
from api.services import services
from models.base import DATABASE_AWAY, ping

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
@described(Who.ANYONE, {200: shows(Alive, "it answers")}, uses_parts=False)
def healthz() -> ResponseReturnValue:
    """Say that this process answers."""
    return {"status": "ok"}


@blueprint.get("/readyz")
@described(
    Who.ANYONE,
    {
        200: shows(Readiness, "work can be taken"),
        503: shows(Readiness, "work cannot be taken"),
    },
    uses_parts=False,
)
def readyz() -> ResponseReturnValue:
    """Say whether work can be taken, and which part is away if not."""
    parts = {"database": _database(), "redis": "ok", "workers": "none"}
    try:
        ready = services().workers.ready()
        parts["workers"] = "ok" if ready else "none"
    except redis.RedisError:
        parts["redis"] = "away"
        parts["workers"] = "unknown"
    is_ready = all(state == "ok" for state in parts.values())
    return {"status": "ready" if is_ready else "not ready", "parts": parts}, (
        200 if is_ready else 503
    )


def _database() -> str:
    try:
        with services().sessions() as session:
            ping(session)
    except DATABASE_AWAY:
        return "away"
    return "ok"
