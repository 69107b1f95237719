"""What a call answers when it did what was asked."""

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
class Header:
    """A header of an answer; one that is not `is_always` there stands where it applies."""

    name: str
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    is_always: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One status.

    Attributes:
        content: by media type: the model of JSON, of each event of a stream or line of a file,
            `None` of text.
    """

    description: str
    content: Mapping[str, type[BaseModel] | None] = field(default_factory=dict)
    headers: tuple[Header, ...] = ()


def shows(model: type[BaseModel], description: str, *headers: Header) -> Answer:
    """Return an answer in JSON."""
    return Answer(description, {JSON: model}, headers)


def streams(event: type[BaseModel], description: str) -> Answer:
    """Return an answer in server-sent events."""
    return Answer(description, {EVENT_STREAM: event})


def shows_or_streams(model: type[BaseModel], event: type[BaseModel], *headers: Header) -> Answer:
    """Return an answer to a generation, which may ask for a stream."""
    text = "the answer; with `stream` its text as it is made, `[DONE]` is the last event"
    return Answer(text, {JSON: model, EVENT_STREAM: event}, headers)


def has_lines(line: type[BaseModel], description: str, *headers: Header) -> Answer:
    """Return an answer in lines of JSON."""
    return Answer(description, {JSONL: line}, headers)


def nothing(description: str) -> Answer:
    """Return an answer without a body."""
    return Answer(description)


REQUEST_ID = Header(
    "x-request-id",
    "names this request in the service's logs; yours, if you sent one",
    {"type": "string"},
    True,
)
LOCATION = Header("Location", "where the job can be read", is_always=True)
BATCH_LOCATION = Header("Location", "where the batch can be read", is_always=True)
NEXT_CURSOR = Header("x-next-cursor", "`after` of the next page, if there is one")
PREFERENCE_APPLIED = Header("Preference-Applied", "the preference that was followed")
REPLAYED = Header(
    "Idempotency-Replayed",
    "the same request was sent before: this is what it made",
    {"const": "true"},
)
FROM_CACHE = Header("x-cache", "`hit`: the answer was given before", {"const": "hit"})
ACCEPT_ENCODING = Header("Accept-Encoding", "`identity`, where the body came packed")
RETRY_AFTER = Header(
    "Retry-After", "seconds until the request may pass", {"type": "integer", "minimum": 1}, True
)
RETRY_AFTER_MS = Header(
    "retry-after-ms", "the same in milliseconds", {"type": "integer", "minimum": 1}, True
)
SHOULD_RETRY = Header(
    "x-should-retry", "`false`: waiting cannot help this request", {"const": "false"}
)
WWW_AUTHENTICATE = Header("WWW-Authenticate", "which credentials are taken", is_always=True)
RATE_LIMITS = tuple(
    Header(f"x-ratelimit-{what}-{kind}", f"{text} {kind} a minute", schema)
    for kind in ("requests", "tokens")
    for what, text, schema in (
        ("limit", "the key's limit of", {"type": "integer", "minimum": 1}),
        ("remaining", "what is left of the", {"type": "integer", "minimum": 0}),
        (
            "reset",
            "seconds until the next minute of the",
            {"type": "string", "pattern": "^[0-9]+s$"},
        ),
    )
)
