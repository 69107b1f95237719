"""The error responses of calls. Each `code` is stable: clients may rely on it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from api.openapi.response import (
    ACCEPT_ENCODING,
    RATE_LIMITS,
    RETRY_AFTER,
    RETRY_AFTER_MS,
    SHOULD_RETRY,
    WWW_AUTHENTICATE,
    ResponseHeader,
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Codes of one status. The document merges all refusals of a call that share a status."""

    status: int
    codes: tuple[str, ...]
    headers: tuple[ResponseHeader, ...] = ()


#: The description of each status, the same for all calls.
DESCRIPTIONS = {
    400: "the request is malformed, or a value is out of range",
    401: "the credential is missing or not valid",
    403: "the credential does not permit this call",
    404: "the resource does not exist, or this caller may not see it",
    408: "the body did not arrive within `BODY_SECONDS`, or the file within `UPLOAD_SECONDS`",
    409: "the request conflicts with the current state of the resource",
    413: "the body is larger than `MAX_BODY_BYTES`, or the file is larger than `MAX_BATCH_BYTES`",
    415: "the `Content-Type` is not one that the call accepts, or the body is compressed",
    422: "the `Idempotency-Key` was used for a different request",
    429: "a limit is reached; nothing was charged",
    500: "the service failed",
    503: "the service is overloaded, or a part of it is away: retry after `Retry-After`",
}

_RETRY = (RETRY_AFTER, RETRY_AFTER_MS)
#: Without these headers: a request that is larger than its limit never succeeds.
_RETRY_IF_IT_HELPS = tuple(replace(header, is_always=False) for header in _RETRY)
_CHALLENGE = (WWW_AUTHENTICATE,)

BAD_BODY = (
    Refusal(400, ("invalid_json", "invalid_request")),
    Refusal(408, ("request_timeout",)),
    Refusal(413, ("payload_too_large",)),
    Refusal(415, ("unsupported_media_type",), (ACCEPT_ENCODING,)),
)
BAD_REQUEST = Refusal(400, ("invalid_request",))
NO_TOKEN = Refusal(401, ("missing_credentials", "invalid_token", "token_expired"), _CHALLENGE)
NO_KEY = (
    Refusal(
        401,
        ("missing_credentials", "invalid_token", "token_expired", "invalid_api_key"),
        _CHALLENGE,
    ),
    Refusal(403, ("key_inactive", "key_expired", "user_suspended")),
)
BAD_REFRESH_TOKEN = Refusal(401, ("invalid_token", "token_expired"), _CHALLENGE)
WRONG_PASSWORD = Refusal(401, ("invalid_credentials",), _CHALLENGE)
WRONG_CURRENT_PASSWORD = Refusal(403, ("invalid_credentials",))
SUSPENDED = Refusal(403, ("user_suspended",))
FORBIDDEN = Refusal(403, ("forbidden",))
NOT_FOUND = Refusal(404, ("not_found",))
EMAIL_TAKEN = Refusal(409, ("email_taken",))
LAST_ADMIN = Refusal(409, ("last_admin",))
TOO_MANY_ATTEMPTS = Refusal(429, ("too_many_attempts",), _RETRY)
TOO_MANY_POLLS = Refusal(429, ("rate_limit_exceeded",), _RETRY)
TOO_MANY_WRITES = Refusal(429, ("too_many_writes",), _RETRY)
TOO_MANY_UPLOADS = Refusal(429, ("too_many_uploads", "too_many_upload_bytes"), _RETRY)
TOO_MANY_WAITS = Refusal(429, ("too_many_waits",), _RETRY)
TOO_MANY_STREAMS = Refusal(429, ("too_many_streams",), _RETRY)
OVERLOADED = Refusal(503, ("overloaded",), _RETRY)
AWAY = Refusal(503, ("queue_unavailable", "database_unavailable"), _RETRY)
FAULT = Refusal(500, ("internal_error",))
NO_SUCH_MODEL = Refusal(404, ("model_not_found",))

#: Refusals of a generation before its job is created.
NOT_ADMITTED = (
    Refusal(400, ("context_length_exceeded",)),
    NO_SUCH_MODEL,
    Refusal(422, ("idempotency_conflict",)),
    Refusal(
        429,
        (
            "rate_limit_exceeded",
            "token_limit_exceeded",
            "too_many_in_flight",
            "monthly_quota_exceeded",
        ),
        (*_RETRY_IF_IT_HELPS, SHOULD_RETRY, *RATE_LIMITS),
    ),
    OVERLOADED,
)
#: Refusals of a batch before it is created.
BATCH_NOT_CREATED = (
    Refusal(422, ("idempotency_conflict",), (SHOULD_RETRY,)),
    Refusal(
        429, ("too_many_batches", "monthly_quota_exceeded"), (*_RETRY_IF_IT_HELPS, SHOULD_RETRY)
    ),
    TOO_MANY_UPLOADS,
    OVERLOADED,
)
TOO_MANY_FILES = Refusal(409, ("too_many_files",), (SHOULD_RETRY,))
NOT_RETRIED = Refusal(409, ("batch_not_finished", "nothing_to_retry"))
#: Failures of a job whose caller waits for it.
NOT_COMPLETED = (
    TOO_MANY_WAITS,
    TOO_MANY_STREAMS,
    Refusal(500, ("engine_error", "worker_lost")),
    Refusal(503, ("interrupted", "job_expired"), _RETRY),
)
CANCELLED = Refusal(409, ("job_cancelled",), (SHOULD_RETRY,))
