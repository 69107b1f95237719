"""The health checks: whether this process responds, and whether the service accepts work."""

from __future__ import annotations

import redis
from flask import Blueprint
from flask.typing import ResponseReturnValue

from api.openapi.operation import CallerKind, described
from api.openapi.response import json_response
from api.responses.service import AliveSchema, ReadinessSchema
from api.services import services
from core.redis.client import prove_redis_writable, refusal_of
from models.database.base import DATABASE_AWAY, away_kind, check_writable

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
@described(
    CallerKind.ANYONE,
    {200: json_response(AliveSchema, "the process responds")},
    uses_backends=False,
)
def healthz() -> ResponseReturnValue:
    """Return 200 if this process responds."""
    return {"status": "ok"}


@blueprint.get("/health")
@described(
    CallerKind.ANYONE,
    {200: json_response(AliveSchema, "the process responds")},
    uses_backends=False,
)
def health() -> ResponseReturnValue:
    """Return 200 if this process responds, at the path that vLLM uses."""
    return healthz()


@blueprint.get("/readyz")
@described(
    CallerKind.ANYONE,
    {
        200: json_response(ReadinessSchema, "the service accepts work"),
        503: json_response(ReadinessSchema, "the service does not accept work"),
    },
    uses_backends=False,
)
def readyz() -> ResponseReturnValue:
    """Return whether the service accepts work, and the state of each part."""
    parts = {"database": _database(), **_queue()}
    is_ready = all(state == "ok" for state in parts.values())
    return {"status": "ready" if is_ready else "not ready", "parts": parts}, (
        200 if is_ready else 503
    )


def _database() -> str:
    try:
        with services().database.sessions() as session:
            check_writable(session)
    except DATABASE_AWAY as error:
        return away_kind(error)
    return "ok"


def _queue() -> dict[str, str]:
    try:
        prove_redis_writable(services().redis_client)
        ready = services().workers.ready()
    except redis.RedisError as error:
        return {"redis": refusal_of(error), "workers": "unknown"}
    return {"redis": "ok", "workers": "ok" if ready else "none"}
