"""Calls the API on behalf of the viewer.

Every change goes through the API, so that rules, limits and the audit trail exist once. Each call
carries its own JWT, which is valid for a minute. The JWT has the rights of the viewer and
contains the client address.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import IO, Any
from urllib.parse import urlencode

from flask import request
from flask_jwt_extended import create_access_token
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from admin_ui.session_cookie import session_id
from admin_ui.wording import error_text, field_error_text
from core.config.settings import Settings
from core.ids import Prefix, format_id
from core.security.jwt_rules import ADDRESS_CLAIM, SESSION_CLAIM, VERSION_CLAIM
from core.text.integers import bounded_integer
from models.accounts.user import User

TOKEN_LIFE = timedelta(seconds=60)
CONNECT_SECONDS = 3.0
#: Read timeouts: of an ordinary call, and between two chunks of a stream. The API sends
#: keep-alives more often.
CALL_SECONDS = 20.0
STREAM_PAUSE_SECONDS = 60.0
CONNECTIONS = 64
CHUNK_BYTES = 64 * 1024


class ApiAway(Exception):
    """The API sent no response, or one that is not the API's JSON."""


@dataclass(eq=False)  # not frozen: a context manager sets the traceback
class ApiRefusal(Exception):
    """The API rejected a request.

    Attributes:
        code: of the error, as the API documents it.
        message: a sentence for people.
        fields: what is wrong with each field, by API name.
        retry_after: seconds to wait before the same request, if the API sent them.
    """

    status: int
    code: str
    message: str
    fields: Mapping[str, str] = field(default_factory=dict)
    retry_after: int | None = None


class ApiStream:
    """A response of the API that is read in chunks."""

    def __init__(self, response: BaseHTTPResponse) -> None:
        self._response = response
        self._is_aborted = False

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    def chunks(self) -> Iterator[bytes]:
        """Yield each chunk when it arrives.

        Raises:
            ApiAway: the connection broke within the response.
        """
        try:
            yield from self._response.stream(CHUNK_BYTES)
        except (HTTPError, OSError) as error:
            if not self._is_aborted:
                raise ApiAway(f"{type(error).__name__} within a response") from error

    def abort(self) -> None:
        """End `chunks` now, even while it waits."""
        self._is_aborted = True
        with suppress(ValueError, RuntimeError, OSError):  # the response has ended
            self._response.shutdown()


class ApiClient:
    """A client of the API, with a pool of connections; a process needs one."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.inner_api_url
        self._pool = PoolManager(
            maxsize=CONNECTIONS,
            retries=Retry(connect=1, read=0, redirect=0, status=0, other=0),
            timeout=Timeout(connect=CONNECT_SECONDS, read=CALL_SECONDS),
        )

    def call(
        self,
        user: User,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Any:
        """Return the JSON of the response, or `None` for 204.

        Raises:
            ApiRefusal: the API rejected the request.
            ApiAway: no response came.
        """
        response = self._send(user, method, path, body, headers=headers, query=query)
        return _read(response)

    @contextmanager
    def stream(
        self,
        user: User,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Iterator[ApiStream]:
        """Open a response as a stream; leaving the block closes the connection.

        Raises:
            ApiRefusal: the API rejected the request.
            ApiAway: no response came.
        """
        timeout = Timeout(connect=CONNECT_SECONDS, read=STREAM_PAUSE_SECONDS)
        response = self._send(
            user,
            method,
            path,
            body,
            headers=headers,
            query=query,
            timeout=timeout,
            preload_content=False,
        )
        try:
            if response.status >= 400:
                _read(response)
            yield ApiStream(response)
        finally:
            response.close()

    def send_file(
        self,
        user: User,
        path: str,
        file: IO[bytes],
        size: int,
        *,
        content_type: str,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        seconds: float,
    ) -> Any:
        """Stream a file as the body of a POST; otherwise like `call`.

        Args:
            size: in bytes.
            seconds: read timeout.
        """
        response = self._send(
            user,
            "POST",
            path,
            file,
            headers={**headers, "Content-Type": content_type, "Content-Length": str(size)},
            query=query,
            timeout=Timeout(connect=CONNECT_SECONDS, read=seconds),
        )
        return _read(response)

    def _send(
        self,
        user: User,
        method: str,
        path: str,
        body: Mapping[str, Any] | IO[bytes] | None,
        *,
        headers: Mapping[str, str] | None,
        query: Mapping[str, str] | None = None,
        **options: Any,
    ) -> BaseHTTPResponse:
        all_headers = {"Authorization": f"Bearer {_token(user)}", **(headers or {})}
        content: bytes | IO[bytes] | None
        if isinstance(body, Mapping):
            content = json.dumps(body).encode()
            all_headers["Content-Type"] = "application/json"
        else:
            content = body
        url = f"{self._url}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            return self._pool.request(method, url, body=content, headers=all_headers, **options)
        except HTTPError as error:
            raise ApiAway(type(error).__name__) from error


def _token(user: User) -> str:
    claims = {VERSION_CLAIM: user.token_version, ADDRESS_CLAIM: request.remote_addr or ""}
    if (session := session_id()) is not None:
        claims[SESSION_CLAIM] = format_id(Prefix.SESSION, session)
    token: str = create_access_token(
        format_id(Prefix.USER, user.id), expires_delta=TOKEN_LIFE, additional_claims=claims
    )
    return token


def _read(response: BaseHTTPResponse) -> Any:
    if response.status == 204:
        return None
    try:
        content = json.loads(response.data)
        if response.status < 400:
            return content
        error = content["error"]
        message = error_text(error["code"], error["message"])
        fields = {f["param"]: field_error_text(**f) for f in error.get("fields", [])}
        if not fields and error.get("param"):
            fields = {error["param"]: message}
        raise ApiRefusal(
            response.status,
            error["code"],
            message,
            fields,
            retry_after=bounded_integer(response.headers.get("Retry-After", "")),
        )
    except (HTTPError, ValueError, KeyError, TypeError) as error:
        raise ApiAway(f"the response with status {response.status} is not of the API") from error
