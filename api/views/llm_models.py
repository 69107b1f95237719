"""The call for the served model and its ready workers."""

from __future__ import annotations

from typing import Any

from flask import Blueprint
from flask.typing import ResponseReturnValue

from api.auth.authentication import authenticate
from api.openapi.operation import CallerKind, described
from api.openapi.response import json_response
from api.responses.service import ModelPageSchema
from api.services import services
from core.queueing.workers import WorkerStatus

blueprint = Blueprint("models", __name__, url_prefix="/api/llm/models")


@blueprint.get("")
@described(CallerKind.KEY_OR_USER, {200: json_response(ModelPageSchema, "the model")})
def index() -> ResponseReturnValue:
    """List the served model, with the sums over its ready workers.

    `cacheUse` is that of the fullest worker.
    """
    with services().database.sessions() as session:
        authenticate(session)
    return {"data": [_serialize(services().workers.ready())], "nextCursor": None}


def _serialize(ready: list[WorkerStatus]) -> dict[str, Any]:
    lengths = [status.context_length for status in ready]
    return {
        "id": services().settings.model_name,
        "object": "model",
        "contextLength": min([services().prompts.tokenizer.context_length, *lengths]),
        "readyWorkers": len(ready),
        "running": sum(status.running for status in ready),
        "waiting": sum(status.waiting for status in ready),
        "cacheUse": max((status.cache_use for status in ready), default=0.0),
        "steps": sum(status.steps for status in ready),
        "tokensPerSecond": round(sum(status.tokens_per_second for status in ready), 1),
    }
