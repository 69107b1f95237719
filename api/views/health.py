"""Is this process alive, and can the service take work."""

from __future__ import annotations

import redis
from flask import Blueprint
from flask.typing import ResponseReturnValue

from api.openapi.operation import CallerKind, described
from api.openapi.response import json_response
from api.responses.service import AliveSchema, ReadinessSchema
from api.services import services
from core.redis.client import prove_redis_writable, refusal_of
from models.database.base import DATABASE_AWAY, prove_writable, why_away

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
@described(CallerKind.ANYONE, {200: json_response(AliveSchema, "it answers")}, uses_backends=False)
def healthz() -> ResponseReturnValue:
    """Say that this process answers."""
    return {"status": "ok"}


@blueprint.get("/health")
@described(CallerKind.ANYONE, {200: json_response(AliveSchema, "it answers")}, uses_backends=False)
def health() -> ResponseReturnValue:
    """Say that this process answers, at the address that vLLM has for it."""
    return healthz()


@blueprint.get("/readyz")
@described(
    CallerKind.ANYONE,
    {
        200: json_response(ReadinessSchema, "work can be taken"),
        503: json_response(ReadinessSchema, "work cannot be taken"),
    },
    uses_backends=False,
)
def readyz() -> ResponseReturnValue:
    """Say whether work can be taken, and which part is away, read-only or full if not."""
    parts = {"database": _database(), **_queue()}
    is_ready = all(state == "ok" for state in parts.values())
    return {"status": "ready" if is_ready else "not ready", "parts": parts}, (
        200 if is_ready else 503
    )


def _database() -> str:
    try:
        with services().database.sessions() as session:
            prove_writable(session)
    except DATABASE_AWAY as error:
        return why_away(error)
    return "ok"


def _queue() -> dict[str, str]:
    try:
        prove_redis_writable(services().redis_client)
        ready = services().workers.ready()
    except redis.RedisError as error:
        return {"redis": refusal_of(error), "workers": "unknown"}
    return {"redis": "ok", "workers": "ok" if ready else "none"}
