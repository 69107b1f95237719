"""Calls the service's own API for the person at the page: every change goes through it, so that
rules, limits and the audit trail exist once.

Each call carries a token of its own, which lives a minute, has the rights of that person and names
the address that they come from.
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
from admin_ui.wording import told, told_of_field
from core.config.settings import Settings
from core.ids import Prefix, show_id
from core.security.jwt_rules import ADDRESS_CLAIM, SESSION_CLAIM, VERSION_CLAIM
from models.accounts.user import User

TOKEN_LIFE = timedelta(seconds=60)
CONNECT_SECONDS = 3.0
#: What an ordinary call may take; a stream may pause as long as the API's own keep-alives allow.
CALL_SECONDS = 20.0
STREAM_PAUSE_SECONDS = 60.0
CONNECTIONS = 64
PIECE_BYTES = 64 * 1024


class ServiceAway(Exception):
    """The API did not answer, or not as an API does."""


@dataclass(eq=False)  # not frozen: whoever passes an exception on sets its traceback
class ServiceRefusal(Exception):
    """The API said no: in sentences that people read.

    Attributes:
        fields: what is wrong with each field, by its name in the API.
        retry_after: the seconds after which the same may pass, where the API says so.
    """

    status: int
    code: str
    message: str
    fields: Mapping[str, str] = field(default_factory=dict)
    retry_after: int | None = None


class ServiceStream:
    """An answer of the API while it comes."""

    def __init__(self, answer: BaseHTTPResponse) -> None:
        self._answer = answer
        self._is_unwanted = False

    @property
    def headers(self) -> Mapping[str, str]:
        return self._answer.headers

    def pieces(self) -> Iterator[bytes]:
        """Give each piece as soon as it is here.

        Raises:
            ServiceAway: it ended before its end.
        """
        try:
            yield from self._answer.stream(PIECE_BYTES)
        except (HTTPError, OSError) as error:
            if not self._is_unwanted:
                raise ServiceAway(f"{type(error).__name__} within an answer") from error

    def give_up(self) -> None:
        """Let `pieces` end now, also while it waits: nobody wants the rest."""
        self._is_unwanted = True
        with suppress(ValueError, RuntimeError, OSError):  # it has ended by itself
            self._answer.shutdown()


class ServiceApi:
    """The API at its address. One for the process: it keeps connections."""

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
        """Return the JSON that the API answers this user, `None` if it answers nothing.

        Raises:
            ServiceRefusal: the API's own error.
            ServiceAway: there was no answer.
        """
        answer = self._send(user, method, path, body, headers=headers, query=query)
        return _read(answer)

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
    ) -> Iterator[ServiceStream]:
        """Give the answer while it comes; the end of the block hangs up, if it is not whole.

        Raises:
            ServiceRefusal: the API's own error, before anything came.
            ServiceAway: there was no answer.
        """
        timeout = Timeout(connect=CONNECT_SECONDS, read=STREAM_PAUSE_SECONDS)
        answer = self._send(
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
            if answer.status >= 400:
                _read(answer)
            yield ServiceStream(answer)
        finally:
            answer.close()

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
        """Send a file as the body of a POST, a piece at a time; else as `call`."""
        answer = self._send(
            user,
            "POST",
            path,
            file,
            headers={**headers, "Content-Type": content_type, "Content-Length": str(size)},
            query=query,
            timeout=Timeout(connect=CONNECT_SECONDS, read=seconds),
        )
        return _read(answer)

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
        sent = {"Authorization": f"Bearer {_token(user)}", **(headers or {})}
        content: bytes | IO[bytes] | None
        if isinstance(body, Mapping):
            content = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        else:
            content = body
        address = f"{self._url}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            return self._pool.request(method, address, body=content, headers=sent, **options)
        except HTTPError as error:
            raise ServiceAway(type(error).__name__) from error


def _token(user: User) -> str:
    claims = {VERSION_CLAIM: user.token_version, ADDRESS_CLAIM: request.remote_addr or ""}
    if (session := session_id()) is not None:
        claims[SESSION_CLAIM] = show_id(Prefix.SESSION, session)
    token: str = create_access_token(
        show_id(Prefix.USER, user.id), expires_delta=TOKEN_LIFE, additional_claims=claims
    )
    return token


def _read(answer: BaseHTTPResponse) -> Any:
    if answer.status == 204:
        return None
    try:
        content = json.loads(answer.data)
        if answer.status < 400:
            return content
        error = content["error"]
        message = told(error["code"], error["message"])
        fields = {f["param"]: told_of_field(**f) for f in error.get("fields", [])}
        if not fields and error.get("param"):
            fields = {error["param"]: message}
        wait = answer.headers.get("Retry-After", "")
        raise ServiceRefusal(
            answer.status,
            error["code"],
            message,
            fields,
            retry_after=int(wait) if wait.isdigit() else None,
        )
    except (HTTPError, ValueError, KeyError, TypeError) as error:
        raise ServiceAway(f"{answer.status} without an answer of the API") from error
