"""`GET /v1/models`: the one served model, with the fields of OpenAI and vLLM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Blueprint
from flask.typing import ResponseReturnValue

from api.auth.authentication import authenticate
from api.generation.validation import model_not_found
from api.openapi.operation import CallerKind, described
from api.openapi.refusals import NO_SUCH_MODEL
from api.openapi.response import json_response
from api.services import services
from api.v1.generation.schemas import OpenAIModel, OpenAIModelList

blueprint = Blueprint("v1_models", __name__, url_prefix="/v1/models")


@blueprint.get("")
@described(CallerKind.KEY_OR_USER, {200: json_response(OpenAIModelList, "the model")})
def index() -> ResponseReturnValue:
    """List the served model."""
    _authenticate()
    return {"object": "list", "data": [_serialize()]}


@blueprint.get("/<path:name>")
@described(CallerKind.KEY_OR_USER, {200: json_response(OpenAIModel, "the model")}, NO_SUCH_MODEL)
def show(name: str) -> ResponseReturnValue:
    """Return the model of this name."""
    _authenticate()
    if name != services().settings.model_name:
        raise model_not_found(services().settings)
    return _serialize()


def _authenticate() -> None:
    with services().database.sessions() as session:
        authenticate(session)


def _serialize() -> dict[str, Any]:
    settings = services().settings
    return {
        "id": settings.model_name,
        "object": "model",
        "created": _created(Path(settings.model_path)),
        "owned_by": "bountycoder",
        "max_model_len": services().context_length(),
    }


def _created(path: Path) -> int:
    """Return when the model was stored on this machine; 0 if it comes from a hub."""
    return int(path.stat().st_mtime) if path.is_dir() else 0
