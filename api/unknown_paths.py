"""Paths as callers spell them, and what is told of one that leads nowhere."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import Map, MapAdapter, RequestRedirect

from api.openapi.document import path_of

NOT_FOUND_MESSAGE = "there is nothing at this address"
#: Longer paths are no misspelling.
MAX_LENGTH = 100
#: How alike two paths must be, of 1.
LIKENESS = 0.75

_CHAT = "use POST /v1/chat/completions"
_FIM = "use POST /v1/completions with the model's own tokens for infilling in `prompt`"
_TEXT_ONLY = "this service makes text and code only: use POST /v1/chat/completions"
#: Well-known addresses of other services, and what this one has instead.
_ELSEWHERE = {
    "/v1/responses": f"this service has no Responses API: {_CHAT} (AI SDK: `provider.chat(…)`)",
    "/v1/messages": f"this service does not speak Anthropic's API: {_CHAT}",
    "/v1/embeddings": "this service has no embeddings: its model makes text and code only",
    "/v1/rerank": "this service has no ranking: its model makes text and code only",
    "/v1/moderations": "this service has no moderations: its model makes text and code only",
    "/v1/audio": _TEXT_ONLY,
    "/v1/images": _TEXT_ONLY,
    "/v1/assistants": f"this service has no Assistants API: {_CHAT}",
    "/v1/threads": f"this service has no Assistants API: {_CHAT}",
    "/v1/fim": _FIM,
    "/v1/beta": _FIM,
    "/infill": _FIM,
    "/api/chat": f"this service does not speak Ollama's API: {_CHAT}",
    "/api/tags": "this service does not speak Ollama's API: use GET /v1/models",
}


class PathNormalizer:
    """Lets a path with a slash at its end, or two in a row, be the one without.

    A redirect would lose bodies: many clients follow it with GET, or not at all.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        environ["PATH_INFO"] = "/" + "/".join(filter(None, environ["PATH_INFO"].split("/")))
        return self._app(environ, start)


def not_found_message(routes: Map, path: str) -> str:
    """Return the message for a path that leads nowhere: what the caller may have meant."""
    if len(path) > MAX_LENGTH:
        return NOT_FOUND_MESSAGE
    adapter = routes.bind("")
    for candidate in (path, *_rerooted(path)):
        for known, message in _ELSEWHERE.items():
            if candidate == known or candidate.startswith(f"{known}/"):
                return f"{NOT_FOUND_MESSAGE}: {message}"
        if _leads_somewhere(adapter, candidate):
            return f"{NOT_FOUND_MESSAGE}: did you mean {candidate}?"
    paths = {path_of(rule) for rule in routes.iter_rules()}
    near = difflib.get_close_matches(path, paths, n=1, cutoff=LIKENESS)
    return (
        f"{NOT_FOUND_MESSAGE}: did you mean {near[0]}?"
        if near
        else f"{NOT_FOUND_MESSAGE}: see /api/docs"
    )


def allowed_methods_message(error: HTTPException) -> str:
    """Return the message for a method that a path does not take: those that it takes."""
    valid = error.valid_methods if isinstance(error, MethodNotAllowed) else None
    methods = sorted(set(valid or ()) - {"HEAD", "OPTIONS"})
    if not methods:
        return "this address does not take this method"
    return f"this address does not take this method: use {' or '.join(methods)}"


def _rerooted(path: str) -> Iterator[str]:
    """Yield the path below other roots: base URLs are given with `/v1` or without, or twice."""
    _, found, rest = path.rpartition("/v1/")
    if found:
        yield f"/v1/{rest}"
    for root in ("/v1", "/api", "/api/llm"):
        yield root + path


def _leads_somewhere(adapter: MapAdapter, path: str) -> bool:
    try:
        adapter.match(path)
    except (MethodNotAllowed, RequestRedirect):
        return True
    except HTTPException:
        return False
    return True
