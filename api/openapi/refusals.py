"""What calls refuse, and how each refusal is called: `code` is stable, clients may rely on it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from api.openapi.answer import (
    ACCEPT_ENCODING,
    RATE_LIMITS,
    RETRY_AFTER,
    RETRY_AFTER_MS,
    SHOULD_RETRY,
    WWW_AUTHENTICATE,
    Header,
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Codes of one status; those of several refusals of a call are put together."""

    status: int
    codes: tuple[str, ...]
    headers: tuple[Header, ...] = ()


#: What each status says, whatever the call.
MEANINGS = {
    400: "the request is malformed, or a value is out of range",
    401: "no credential came, or one that is not valid",
    403: "the credential is not enough for this",
    404: "there is no such thing for this caller",
    408: "the body did not arrive within `BODY_SECONDS`, or the file within `UPLOAD_SECONDS`",
    409: "what is there already stands against it",
    413: "the body is larger than `MAX_BODY_BYTES`, or the file than `MAX_BATCH_BYTES`",
    415: "the body is not declared as JSON, or as what else the call takes, or it is packed",
    422: "the `Idempotency-Key` was used for another request",
    429: "a limit is reached; nothing was charged",
    500: "something went wrong on our side",
    503: "a part is away, or there is too much to do: try again after `Retry-After`",
}

_RETRY = (RETRY_AFTER, RETRY_AFTER_MS)
#: A request that is larger than its limit never passes.
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
TOO_MANY_LOOKS = Refusal(429, ("rate_limit_exceeded",), _RETRY)
TOO_MANY_WRITES = Refusal(429, ("too_many_writes",), _RETRY)
TOO_MANY_UPLOADS = Refusal(429, ("too_many_uploads", "too_many_upload_bytes"), _RETRY)
TOO_MANY_WAITS = Refusal(429, ("too_many_waits",), _RETRY)
TOO_MANY_STREAMS = Refusal(429, ("too_many_streams",), _RETRY)
OVERLOADED = Refusal(503, ("overloaded",), _RETRY)
AWAY = Refusal(503, ("queue_unavailable", "database_unavailable"), _RETRY)
FAULT = Refusal(500, ("internal_error",))
NO_SUCH_MODEL = Refusal(404, ("model_not_found",))

#: What a generation can be refused with before a job is made.
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
#: What a batch can be refused with before it is made.
BATCH_NOT_MADE = (
    Refusal(422, ("idempotency_conflict",), (SHOULD_RETRY,)),
    Refusal(
        429, ("too_many_batches", "monthly_quota_exceeded"), (*_RETRY_IF_IT_HELPS, SHOULD_RETRY)
    ),
    TOO_MANY_UPLOADS,
    OVERLOADED,
)
TOO_MANY_FILES = Refusal(409, ("too_many_files",), (SHOULD_RETRY,))
NOT_RETRIED = Refusal(409, ("batch_not_finished", "nothing_to_retry"))
#: How the job of one who waits for it can fail.
NOT_ANSWERED = (
    TOO_MANY_WAITS,
    TOO_MANY_STREAMS,
    Refusal(500, ("engine_error", "worker_lost")),
    Refusal(503, ("interrupted", "job_expired"), _RETRY),
)
CANCELLED = Refusal(409, ("job_cancelled",), (SHOULD_RETRY,))
