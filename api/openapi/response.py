"""The successful responses of a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

JSON = "application/json"
EVENT_STREAM = "text/event-stream"
JSONL = "application/jsonl"
CSV = "text/csv"


@dataclass(frozen=True, slots=True)
class ResponseHeader:
    """A header of a response.

    Attributes:
        is_always: every response of its kind has the header; otherwise only some have it.
    """

    name: str
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    is_always: bool = False


@dataclass(frozen=True, slots=True)
class ResponseSpec:
    """The response with one status.

    Attributes:
        content: a model for each media type: of the JSON, of each event of a stream, or of each
            line of a file. Text has `None`.
    """

    description: str
    content: Mapping[str, type[BaseModel] | None] = field(default_factory=dict)
    headers: tuple[ResponseHeader, ...] = ()


def json_response(
    model: type[BaseModel], description: str, *headers: ResponseHeader
) -> ResponseSpec:
    """Return a response in JSON."""
    return ResponseSpec(description, {JSON: model}, headers)


def event_stream_response(event: type[BaseModel], description: str) -> ResponseSpec:
    """Return a response of server-sent events."""
    return ResponseSpec(description, {EVENT_STREAM: event})


def json_or_stream_response(
    model: type[BaseModel], event: type[BaseModel], *headers: ResponseHeader
) -> ResponseSpec:
    """Return the response to a generation, which may ask for a stream."""
    text = "the completion; with `stream`, its text in events, of which `[DONE]` is the last"
    return ResponseSpec(text, {JSON: model, EVENT_STREAM: event}, headers)


def jsonl_response(
    line: type[BaseModel], description: str, *headers: ResponseHeader
) -> ResponseSpec:
    """Return a response of lines of JSON."""
    return ResponseSpec(description, {JSONL: line}, headers)


def empty_response(description: str) -> ResponseSpec:
    """Return a response without a body."""
    return ResponseSpec(description)


REQUEST_ID = ResponseHeader(
    "x-request-id",
    "names this request in the service's logs; it is your own id if you sent one",
    {"type": "string"},
    True,
)
LOCATION = ResponseHeader("Location", "the URL of the job", is_always=True)
BATCH_LOCATION = ResponseHeader("Location", "the URL of the batch", is_always=True)
NEXT_CURSOR = ResponseHeader("x-next-cursor", "the `after` of the next page, if there is one")
PREFERENCE_APPLIED = ResponseHeader("Preference-Applied", "the preference that was followed")
REPLAYED = ResponseHeader(
    "Idempotency-Replayed",
    "the same request was sent before; this is the response to it",
    {"const": "true"},
)
FROM_CACHE = ResponseHeader(
    "x-cache", "`hit`: the completion comes from the cache", {"const": "hit"}
)
ACCEPT_ENCODING = ResponseHeader("Accept-Encoding", "`identity`, if the body was compressed")
RETRY_AFTER = ResponseHeader(
    "Retry-After", "seconds until the request may pass", {"type": "integer", "minimum": 1}, True
)
RETRY_AFTER_MS = ResponseHeader(
    "retry-after-ms", "the same in milliseconds", {"type": "integer", "minimum": 1}, True
)
SHOULD_RETRY = ResponseHeader(
    "x-should-retry", "`false`: this request cannot succeed later", {"const": "false"}
)
WWW_AUTHENTICATE = ResponseHeader(
    "WWW-Authenticate", "which credentials the call accepts", is_always=True
)
RATE_LIMITS = tuple(
    ResponseHeader(f"x-ratelimit-{what}-{kind}", f"{text} {kind} a minute", schema)
    for kind in ("requests", "tokens")
    for what, text, schema in (
        ("limit", "the key's limit of", {"type": "integer", "minimum": 1}),
        ("remaining", "the rest of the", {"type": "integer", "minimum": 0}),
        (
            "reset",
            "seconds until the next minute of the",
            {"type": "string", "pattern": "^[0-9]+s$"},
        ),
    )
)
