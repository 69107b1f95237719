"""What this is, for those who look at an address without knowing the API: people, and probes."""

from __future__ import annotations

from importlib.metadata import version

from flask import Blueprint
from flask.typing import ResponseReturnValue

from api.openapi.answer import shows
from api.openapi.operation import Who, described
from api.responses.service import IndexSchema, VersionSchema

blueprint = Blueprint("index", __name__)


@blueprint.get("/")
@described(Who.ANYONE, {200: shows(IndexSchema, "what is where")}, uses_parts=False)
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
@described(Who.ANYONE, {200: shows(IndexSchema, "what is where")}, uses_parts=False)
def v1_index() -> ResponseReturnValue:
    """Say what this service is to those who open the base URL of OpenAI's clients."""
    return index()


@blueprint.get("/version")
@described(Who.ANYONE, {200: shows(VersionSchema, "the version")}, uses_parts=False)
def show_version() -> ResponseReturnValue:
    """Say which version this is."""
    return {"version": version("bountycoder")}
