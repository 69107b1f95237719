"""Calls the service's own API for the person at the page: every change goes through it, so that
rules, limits and the audit trail exist once.

Each call carries a token of its own, which lives a minute, has the rights of that person and names
the address that they come from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from flask import request
from flask_jwt_extended import create_access_token
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from core.ids import Prefix, show_id
from core.jwt_rules import ADDRESS_CLAIM, VERSION_CLAIM
from core.settings import Settings
from models.user import User

TOKEN_LIFE = timedelta(seconds=60)
CONNECT_SECONDS = 3.0
#: What an ordinary call may take; a stream may pause as long as the API's own keep-alives allow.
CALL_SECONDS = 20.0
STREAM_PAUSE_SECONDS = 60.0
CONNECTIONS = 64


class ServiceAway(Exception):
    """The API did not answer, or not as an API does."""


@dataclass(frozen=True)
class ServiceRefusal(Exception):
    """The API said no.

    Attributes:
        fields: what is wrong with each field, by its name in the API.
    """

    status: int
    code: str
    message: str
    fields: Mapping[str, str] = field(default_factory=dict)


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
        path: str,
        body: Mapping[str, Any],
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[BaseHTTPResponse]:
        """Send a POST and give its answer while it comes; hanging up ends it there, too.

        Raises:
            ServiceRefusal: the API's own error, before anything came.
            ServiceAway: there was no answer.
        """
        timeout = Timeout(connect=CONNECT_SECONDS, read=STREAM_PAUSE_SECONDS)
        answer = self._send(
            user, "POST", path, body, headers=headers, timeout=timeout, preload_content=False
        )
        try:
            if answer.status >= 400:
                _read(answer)
            yield answer
        finally:
            answer.close()

    def _send(
        self,
        user: User,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        *,
        headers: Mapping[str, str] | None,
        query: Mapping[str, str] | None = None,
        **options: Any,
    ) -> BaseHTTPResponse:
        sent = {"Authorization": f"Bearer {_token(user)}", **(headers or {})}
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        address = f"{self._url}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            return self._pool.request(method, address, body=content, headers=sent, **options)
        except HTTPError as error:
            raise ServiceAway(type(error).__name__) from error


def _token(user: User) -> str:
    token: str = create_access_token(
        show_id(Prefix.USER, user.id),
        expires_delta=TOKEN_LIFE,
        additional_claims={
            VERSION_CLAIM: user.token_version,
            ADDRESS_CLAIM: request.remote_addr or "",
        },
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
        fields = {f["param"]: f["message"] for f in error.get("fields", [])}
        if not fields and error.get("param"):
            fields = {error["param"]: error["message"]}
        raise ServiceRefusal(answer.status, error["code"], error["message"], fields)
    except (HTTPError, ValueError, KeyError, TypeError) as error:
        raise ServiceAway(f"{answer.status} without an answer of the API") from error
