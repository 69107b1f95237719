"""A provider's REST API: JSON both ways, a key that stands in no command line, bounded waits."""

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
#: Of one call, with the waits that the API asks for in between.
MAX_TRIES = 4
MAX_WAIT_SECONDS = 60.0
_TOO_MANY = 429
#: What may be sent again though nobody knows what became of it: never a POST, which may have begun
#: to cost money.
_REPEATABLE = ("GET", "DELETE")


class CloudError(Exception):
    """What a provider refused, or that it cannot be reached; the message is one clear line.

    Attributes:
        status: of its answer; 0 where there was none.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        self.status = status
        super().__init__(message)


def read_key(name: str) -> str:
    """Return the key in the environment's `name`, or in the file that `name`_FILE names.

    Raises:
        CloudError: there is neither.
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
    """The key goes to the address that it is for, and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Rest:
    """One API.

    Attributes:
        describe: makes one line of an error's JSON, as this provider writes them.
    """

    address: str
    key: str
    describe: Callable[[Mapping[str, Any]], str]

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return what the API answers; `None` where that is nothing.

        Raises:
            CloudError: it refused, or did not answer.
        """
        for tries in range(1, MAX_TRIES + 1):
            try:
                return self._once(method, path, body)
            except _Later as later:
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
            with build_opener(_NoRedirects).open(request, timeout=TIMEOUT_SECONDS) as answer:
                text = answer.read()
        except HTTPError as refusal:
            with refusal:
                raise self._refused(method, path, refusal) from refusal
        except (OSError, HTTPException) as failure:
            error = CloudError(f"{self.address} does not answer: {failure}")
            raise _Later(error, 1.0) if method in _REPEATABLE else error from failure
        try:
            return json.loads(text) if text else None
        except ValueError as fault:
            raise CloudError(f"{method} {path} answered with something else than JSON") from fault

    def _refused(self, method: str, path: str, refusal: HTTPError) -> Exception:
        try:
            said = self.describe(json.loads(refusal.read()))
        except (ValueError, KeyError, TypeError, AttributeError, OSError):
            said = refusal.reason
        error = CloudError(f"{method} {path}: {refusal.code} {said}", refusal.code)
        if refusal.code == _TOO_MANY or (refusal.code >= 500 and method in _REPEATABLE):
            return _Later(error, _seconds(refusal.headers.get("Retry-After", "")))
        return error


class _Later(Exception):
    """The call may be made again after some seconds."""

    def __init__(self, error: CloudError, seconds: float) -> None:
        self.error, self.seconds = error, seconds
        super().__init__(str(error))


def _seconds(retry_after: str) -> float:
    """Return how long to wait: what the API asks for, within bounds."""
    return min(float(retry_after), MAX_WAIT_SECONDS) if retry_after.isdecimal() else 1.0
