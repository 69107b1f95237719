"""Pages for people and probes that open a URL without knowing the API."""

from __future__ import annotations

from importlib.metadata import version

from flask import Blueprint
from flask.typing import ResponseReturnValue

from api.openapi.operation import CallerKind, described
from api.openapi.response import json_response
from api.responses.service import IndexSchema, VersionSchema

blueprint = Blueprint("index", __name__)


@blueprint.get("/")
@described(
    CallerKind.ANYONE,
    {200: json_response(IndexSchema, "the paths of the documentation")},
    uses_backends=False,
)
def index() -> ResponseReturnValue:
    """Return the name of this service, and the paths of its documentation."""
    return {
        "service": "BountyCoder",
        "version": version("bountycoder"),
        "documentation": "/api/docs",
        "openapi": "/api/openapi.json",
        "openaiBaseUrl": "/v1",
    }


@blueprint.get("/v1")
@described(
    CallerKind.ANYONE,
    {200: json_response(IndexSchema, "the paths of the documentation")},
    uses_backends=False,
)
def v1_index() -> ResponseReturnValue:
    """Return the same as `GET /`, at the base URL of OpenAI's clients."""
    return index()


@blueprint.get("/version")
@described(
    CallerKind.ANYONE, {200: json_response(VersionSchema, "the version")}, uses_backends=False
)
def show_version() -> ResponseReturnValue:
    """Return the version of this service."""
    return {"version": version("bountycoder")}
