"""Rejects requests with an invalid `Host` header, before a URL is built from it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from werkzeug.wrappers import Response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger(__name__)

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(
    rf"(?=.{{1,255}}\Z)({_LABEL}(\.{_LABEL})*\.?|\[[0-9a-f:.]+\])(:[0-9]{{1,5}})?", re.IGNORECASE
)
#: Plain text: a page would need the host for its URLs.
_TEXT = "The address of this page is malformed: its host is not a valid host name.\n"


class HostCheck:
    """A WSGI middleware that answers 400 for an invalid `Host` header."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if is_host(environ.get("HTTP_HOST", "localhost")):
            return self._app(environ, start_response)
        # The log omits the header, which may be kilobytes long.
        _log.warning("a request with a malformed Host is rejected")
        return Response(_TEXT, 400, mimetype="text/plain")(environ, start_response)


def is_host(text: str) -> bool:
    """Return whether a `Host` header is a host name or address, with or without a port."""
    return _HOST.fullmatch(text) is not None
