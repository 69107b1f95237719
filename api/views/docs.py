"""The published contract: the OpenAPI document, and a page to read it and try its calls.

This service serves all files of the page: it loads nothing from another host.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import cast

from flask import Blueprint, Response, current_app, request
from flask.typing import ResponseReturnValue

from api.openapi.document import build_document
from api.openapi.operation import CallerKind, described, html_page
from api.openapi.response import JSON, json_response
from api.responses.service import DocumentSchema
from core.errors import NotFound

blueprint = Blueprint("docs", __name__, url_prefix="/api")

#: The scripts of the page call only this service. The viewer sets styles from its script.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
#: The files of the page, with their media types.
ASSETS = {
    "docs.css": "text/css; charset=utf-8",
    "openapi-explorer-2.4.820.min.js": "text/javascript; charset=utf-8",
    "LICENSE.txt": "text/plain; charset=utf-8",
    "NOTICE.txt": "text/plain; charset=utf-8",
}
_DOCUMENT = "openapi-document"


@blueprint.get("/openapi.json")
@described(
    CallerKind.ANYONE, {200: json_response(DocumentSchema, "this document")}, uses_backends=False
)
def document() -> ResponseReturnValue:
    """Return this document."""
    return _cacheable(_document(), JSON)


@blueprint.get("/docs")
@html_page()
def page() -> ResponseReturnValue:
    """Return the page that displays the document."""
    response = _cacheable(_read("index.html"), "text/html; charset=utf-8")
    response.headers["content-security-policy"] = CONTENT_SECURITY_POLICY
    return response


@blueprint.get("/docs/<name>")
@html_page()
def asset(name: str) -> ResponseReturnValue:
    """Return a file of the page."""
    kind = ASSETS.get(name)
    if kind is None:
        raise NotFound("there is nothing at this address")
    return _cacheable(_read(name), kind)


def _document() -> bytes:
    """Return the document of this application; the first call builds it."""
    made = current_app.extensions.get(_DOCUMENT)
    if made is None:
        app = current_app._get_current_object()  # type: ignore[attr-defined]
        made = json.dumps(build_document(app), ensure_ascii=False).encode()
        current_app.extensions[_DOCUMENT] = made
    return cast(bytes, made)


def _read(name: str) -> bytes:
    return files("api").joinpath("static", "docs", name).read_bytes()


def _cacheable(data: bytes, content_type: str) -> Response:
    """Return a response that browsers cache and revalidate each time."""
    response = Response(data, content_type=content_type)
    response.headers["cache-control"] = "no-cache"
    response.add_etag()
    return cast(Response, response.make_conditional(request))
