"""A client of a provider's REST API: JSON, bounded waits, no key on a command line."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

TIMEOUT_SECONDS = 60.0
#: Attempts of one call, with the pauses that the API asks for.
MAX_TRIES = 4
MAX_WAIT_SECONDS = 60.0
_TOO_MANY = 429
#: Methods that are retried after an unknown outcome. Never a POST: it may have rented a machine.
_REPEATABLE = ("GET", "DELETE")


class CloudError(Exception):
    """A provider refused a call or cannot be reached; the message is one line.

    Attributes:
        status: HTTP status of the response; 0 if there was none.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        self.status = status
        super().__init__(message)


def read_key(name: str) -> str:
    """Return the API key from the variable `name`, or from the file that `name`_FILE names.

    Raises:
        CloudError: neither variable is set, or the file cannot be read.
    """
    key, file = os.environ.get(name, ""), os.environ.get(f"{name}_FILE", "")
    try:
        key = key or (Path(file).read_text() if file else "")
    except OSError as error:
        raise CloudError(f"{file} cannot be read: {error.strerror}") from error
    if not key.strip():
        raise CloudError(f"set {name}, or {name}_FILE to a file with the key")
    return key.strip()


class _NoRedirects(HTTPRedirectHandler):
    """Follow no redirects: the key must not reach another address."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Rest:
    """A client of one API.

    Attributes:
        describe: formats the provider's error JSON as one line.
    """

    address: str
    key: str
    describe: Callable[[Mapping[str, Any]], str]

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the JSON of the response, or `None` if its body is empty.

        Raises:
            CloudError: the API refused the call or did not respond.
        """
        for tries in range(1, MAX_TRIES + 1):
            try:
                return self._once(method, path, body)
            except _RetryLater as later:
                if tries == MAX_TRIES:
                    raise later.error from later
                time.sleep(later.seconds)
        raise AssertionError

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        headers = {"Authorization": f"Bearer {self.key}", "Accept": "application/json"}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        request = Request(f"{self.address}{path}", data=data, headers=headers, method=method)
        try:
            with build_opener(_NoRedirects).open(request, timeout=TIMEOUT_SECONDS) as response:
                text = response.read()
        except HTTPError as refusal:
            with refusal:
                raise self._refused(method, path, refusal) from refusal
        except (OSError, HTTPException) as failure:
            error = CloudError(f"{self.address} does not respond: {failure}")
            raise _RetryLater(error, 1.0) if method in _REPEATABLE else error from failure
        try:
            return json.loads(text) if text else None
        except ValueError as fault:
            raise CloudError(f"{method} {path}: the response is not JSON") from fault

    def _refused(self, method: str, path: str, refusal: HTTPError) -> Exception:
        try:
            reason = self.describe(json.loads(refusal.read()))
        except (ValueError, KeyError, TypeError, AttributeError, OSError):
            reason = refusal.reason
        error = CloudError(f"{method} {path}: {refusal.code} {reason}", refusal.code)
        if refusal.code == _TOO_MANY or (refusal.code >= 500 and method in _REPEATABLE):
            return _RetryLater(error, _seconds(refusal.headers.get("Retry-After", "")))
        return error


class _RetryLater(Exception):
    """The call may be retried after some seconds."""

    def __init__(self, error: CloudError, seconds: float) -> None:
        self.error, self.seconds = error, seconds
        super().__init__(str(error))


def _seconds(retry_after: str) -> float:
    """Return the pause that the API asks for, bounded; 1 s if it asks for none."""
    return min(float(retry_after), MAX_WAIT_SECONDS) if retry_after.isdecimal() else 1.0
