"""Is this process alive, and can the service take work."""

from __future__ import annotations

import redis
from flask import Blueprint
from flask.typing import ResponseReturnValue

from api.services import services
from models.base import DATABASE_AWAY, ping

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> ResponseReturnValue:
    """Say that this process answers."""
    return {"status": "ok"}


@blueprint.get("/readyz")
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
