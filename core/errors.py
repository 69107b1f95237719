"""The errors that cross layers. Errors of drivers are translated once, at the edge.

BountyError
├── SettingsError            a setting is wrong: the program does not start
├── LauncherError            a program cannot start or keep running: one line for the user
├── BackupError              a backup cannot be made, verified or restored: one line for the user
└── ApiError                 an error response: a stable code, a status, a message
    ├── InvalidRequest       400   (with one entry per field)
    ├── ContextLengthExceeded 400
    ├── Unauthorized         401
    ├── Forbidden            403
    ├── NotFound             404
    ├── MethodNotAllowed     405
    ├── Conflict             409
    ├── RequestTimeout       408
    ├── PayloadTooLarge      413
    ├── UnsupportedMediaType 415
    ├── IdempotencyConflict  422
    ├── RateLimited          429   (with Retry-After, unless waiting cannot help)
    └── Unavailable          503   (with Retry-After)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

#: The `WWW-Authenticate` header of a 401.
CHALLENGE = 'Bearer realm="bountycoder"'


class BountyError(Exception):
    """The root of our errors."""


class SettingsError(BountyError):
    """Settings are wrong; `faults` has one line for each fault."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        super().__init__("wrong settings:\n" + "\n".join(f"  - {fault}" for fault in self.faults))


class LauncherError(BountyError):
    """A program cannot start or keep running; the message is one clear line."""


class BackupError(BountyError):
    """A backup cannot be made, verified or restored; the message is one clear line."""


@dataclass(frozen=True, slots=True)
class FieldFault:
    """One wrong field of a request: its name as the caller wrote it, and the fault."""

    param: str
    message: str


class ApiError(BountyError):
    """An error response. `code` is stable: clients may rely on it."""

    status = 500
    type = "server_error"
    code = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        fields: Sequence[FieldFault] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.param = param
        self.fields = tuple(fields)
        self.headers = headers or {}

    def body(self, request_id: str) -> dict[str, Any]:
        """Return the JSON body of the error."""
        error: dict[str, Any] = {
            "code": self.code,
            "type": self.type,
            "message": self.message,
            "param": self.param,
            "requestId": request_id,
        }
        if self.fields:
            error["fields"] = [{"param": f.param, "message": f.message} for f in self.fields]
        return {"error": error}


class InvalidRequest(ApiError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"


class Unauthorized(ApiError):
    """A credential is missing or wrong. RFC 9110 requires a challenge in each 401."""

    status = 401
    type = "authentication_error"
    code = "missing_credentials"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message, code=code, headers={"WWW-Authenticate": CHALLENGE})


class Forbidden(ApiError):
    status = 403
    type = "permission_error"
    code = "forbidden"


class NotFound(ApiError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"


class MethodNotAllowed(ApiError):
    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class Conflict(ApiError):
    status = 409
    type = "invalid_request_error"
    code = "conflict"


class RequestTimeout(ApiError):
    status = 408
    type = "invalid_request_error"
    code = "request_timeout"


class PayloadTooLarge(ApiError):
    status = 413
    type = "invalid_request_error"
    code = "payload_too_large"


class UnsupportedMediaType(ApiError):
    status = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"


class IdempotencyConflict(ApiError):
    status = 422
    type = "invalid_request_error"
    code = "idempotency_conflict"


class RateLimited(ApiError):
    """A limit was reached; `retry_after_seconds` is `None` if a retry cannot help."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(
        self,
        message: str,
        *,
        retry_after_seconds: float | None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        retry = {} if retry_after_seconds is None else retry_headers(retry_after_seconds)
        super().__init__(message, code=code, headers={**(headers or {}), **retry})


class Unavailable(ApiError):
    """A part is away or overloaded; a retry may pass after `retry_after_seconds`."""

    status = 503
    type = "service_unavailable_error"
    code = "overloaded"

    def __init__(
        self, message: str, *, code: str | None = None, retry_after_seconds: float = 2.0
    ) -> None:
        super().__init__(message, code=code, headers=retry_headers(retry_after_seconds))


def retry_headers(seconds: float) -> dict[str, str]:
    """Return `Retry-After` in whole seconds, at least 1, and the same in milliseconds."""
    milliseconds = max(1, round(seconds * 1000))
    return {
        "Retry-After": str(max(1, -(-milliseconds // 1000))),
        "retry-after-ms": str(milliseconds),
    }
