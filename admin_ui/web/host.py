"""Refuses requests whose `Host` names no host, before anything makes an address of it."""

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
#: As plain as it can be: it must not need the host.
_TEXT = "The address of this page is malformed: its host is no name of a host.\n"


class HostCheck:
    """A WSGI application in front of another."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if is_host(environ.get("HTTP_HOST", "localhost")):
            return self._app(environ, start_response)
        # Without the host that was given: it may be as long as a head.
        _log.warning("a request with a malformed Host is refused")
        return Response(_TEXT, 400, mimetype="text/plain")(environ, start_response)


def is_host(text: str) -> bool:
    """Say whether a `Host` header names a host, perhaps with a port."""
    return _HOST.fullmatch(text) is not None
