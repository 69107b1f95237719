"""Normalizes paths, and suggests another one for a path that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import Map, MapAdapter, RequestRedirect

from api.openapi.document import path_of

NOT_FOUND_MESSAGE = "there is nothing at this address"
#: A longer path is not a misspelling.
MAX_LENGTH = 100
#: The least similarity of two paths, of 1.
MIN_SIMILARITY = 0.75

_CHAT = "use POST /v1/chat/completions"
_FIM = "use POST /v1/completions with the model's own tokens for infilling in `prompt`"
_TEXT_ONLY = "this service generates text and code only: use POST /v1/chat/completions"
#: Well-known paths of other services, and the replacement here.
_OTHER_SERVICES = {
    "/v1/responses": f"this service has no Responses API: {_CHAT} (AI SDK: `provider.chat(…)`)",
    "/v1/messages": f"this service does not speak Anthropic's API: {_CHAT}",
    "/v1/embeddings": "this service has no embeddings: its model generates text and code only",
    "/v1/rerank": "this service has no ranking: its model generates text and code only",
    "/v1/moderations": "this service has no moderations: its model generates text and code only",
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
    """Removes the slash at the end of a path, and repeated slashes.

    A redirect would lose bodies: many clients follow it with GET, or not at all.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        environ["PATH_INFO"] = "/" + "/".join(filter(None, environ["PATH_INFO"].split("/")))
        return self._app(environ, start)


def not_found_message(routes: Map, path: str) -> str:
    """Return the message for an unknown path, with the path that the caller may have meant."""
    if len(path) > MAX_LENGTH:
        return NOT_FOUND_MESSAGE
    adapter = routes.bind("")
    for candidate in (path, *_rerooted(path)):
        for prefix, message in _OTHER_SERVICES.items():
            if candidate == prefix or candidate.startswith(f"{prefix}/"):
                return f"{NOT_FOUND_MESSAGE}: {message}"
        if _exists(adapter, candidate):
            return f"{NOT_FOUND_MESSAGE}: did you mean {candidate}?"
    paths = {path_of(rule) for rule in routes.iter_rules()}
    near = difflib.get_close_matches(path, paths, n=1, cutoff=MIN_SIMILARITY)
    return (
        f"{NOT_FOUND_MESSAGE}: did you mean {near[0]}?"
        if near
        else f"{NOT_FOUND_MESSAGE}: see /api/docs"
    )


def allowed_methods_message(error: HTTPException) -> str:
    """Return the message for a method that a path does not support: the supported ones."""
    valid = error.valid_methods if isinstance(error, MethodNotAllowed) else None
    methods = sorted(set(valid or ()) - {"HEAD", "OPTIONS"})
    if not methods:
        return "this path does not support this method"
    return f"this path does not support this method: use {' or '.join(methods)}"


def _rerooted(path: str) -> Iterator[str]:
    """Yield the path below other roots: base URLs may miss `/v1`, or have it twice."""
    _, found, rest = path.rpartition("/v1/")
    if found:
        yield f"/v1/{rest}"
    for root in ("/v1", "/api", "/api/llm"):
        yield root + path


def _exists(adapter: MapAdapter, path: str) -> bool:
    try:
        adapter.match(path)
    except (MethodNotAllowed, RequestRedirect):
        return True
    except HTTPException:
        return False
    return True
