"""What this is, for those who look at an address without knowing the API: people, and probes."""

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
    CallerKind.ANYONE, {200: json_response(IndexSchema, "what is where")}, uses_backends=False
)
def index() -> ResponseReturnValue:
    """Say what this service is, and where its documentation is."""
    return {
        "service": "BountyCoder",
        "version": version("bountycoder"),
        "documentation": "/api/docs",
        "openapi": "/api/openapi.json",
        "openaiBaseUrl": "/v1",
    }


@blueprint.get("/v1")
@described(
    CallerKind.ANYONE, {200: json_response(IndexSchema, "what is where")}, uses_backends=False
)
def v1_index() -> ResponseReturnValue:
    """Say what this service is to those who open the base URL of OpenAI's clients."""
    return index()


@blueprint.get("/version")
@described(
    CallerKind.ANYONE, {200: json_response(VersionSchema, "the version")}, uses_backends=False
)
def show_version() -> ResponseReturnValue:
    """Say which version this is."""
    return {"version": version("bountycoder")}
