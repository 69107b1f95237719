"""Heads of requests: headers, queries and paths."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

from flask import request
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from api.app import published_document
from api.auth.credentials import _bearer, _fault, _misplaced, presented_secret
from api.generation.idempotency import read_idempotency_key
from api.generation.text_follower import TextFollower, _SentText
from api.http.caller_address import caller_address
from api.http.paging import read_page
from api.http.preferences import read_preferences
from api.http.query import read_choice, read_id_of, read_number, read_text, read_time
from api.v1.listing import read_after, read_limit
from api.views.usage import _read_cursor, _read_range, _wants_csv
from core.ids import Prefix, earliest_id, format_id, parse_id
from core.ip_prefix import counted_address
from core.security.api_key_secret import KeySecret
from core.text.retry_after_header import read_retry_after
from models.batches.batch import BatchState
from models.database.base import utc_now
from models.jobs.job import Job
from models.usage.report import UsageGroup
from tests.fuzz.programs import api_app, environ_of, requested
from tests.fuzz.target import Target, fields, refusals_are_fine

_HEADERS = (
    "authorization",
    "x-api-key",
    "x-request-id",
    "idempotency-key",
    "prefer",
    "x-forwarded-for",
    "x-forwarded-proto",
    "accept",
    "traceparent",
    "tracestate",
)
#: Reads the headers where traces are sent: see core/observability/tracing.py.
_TRACES = TraceContextTextMapPropagator()
_METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE")
_ALLOWED_STATUSES = {200, 204, 304, 308, 400, 401, 403, 404, 405, 408, 413, 415, 503}


def _headers(data: bytes) -> None:
    given = dict(zip(_HEADERS, fields(data, len(_HEADERS)), strict=True))
    with requested(api_app(), headers=given), refusals_are_fine():
        secret = presented_secret()
        if secret is not None and (parsed := KeySecret.parse(secret)) is not None:
            assert parsed.text == secret
        token = _bearer()
        assert token is None or len(_fault(token) or "") < 200
        _misplaced(takes_key=True)
        _misplaced(takes_key=False)
        assert 0 <= read_preferences(60.0).wait_seconds <= 60.0
        counted_address(caller_address()).encode()
        _wants_csv()
        _TRACES.extract(dict(request.headers), Context())
        key = read_idempotency_key()
        assert key is None or key.isprintable()


def _query(data: bytes) -> None:
    with requested(api_app(), query=data):
        readers: tuple[Any, ...] = (
            lambda: read_page(Prefix.JOB),
            lambda: read_limit(default=20, most=100),
            lambda: read_after(Prefix.FILE),
            lambda: read_text("q", max_length=320),
            lambda: read_id_of("userId", Prefix.USER),
            lambda: _time_fits(read_time("from")),
            lambda: read_number("wait", default=0, most=60),
            lambda: read_choice("status", BatchState),
            lambda: _read_range(utc_now),
            lambda: read_number("limit", default=50, least=1, most=1000),
            *(lambda by=by: _read_cursor(by) for by in UsageGroup),
        )
        for read in readers:
            with refusals_are_fine():
                read()


def _time_fits(moment: Any) -> None:
    if moment is not None:
        earliest_id(moment)


def _event_id(data: bytes) -> None:
    """Resume a stream. The first byte sets the job's choices, the rest is `Last-Event-ID`."""
    count = 1 + (data[0] if data else 0) % 8
    (position,) = fields(data[1:], 1)
    job = cast(Job, SimpleNamespace(request={"n": count}))
    nothing = cast(Any, None)
    follower = TextFollower(nothing, job, nothing, nothing, seconds=1)
    with requested(api_app()), refusals_are_fine():
        follower.resume_after(position)
        assert len(follower._choices) == count
        assert all(isinstance(track, _SentText) for track in follower._choices)


def _ids(data: bytes) -> None:
    (text,) = fields(data, 1)
    for prefix in Prefix:
        found = parse_id(prefix, text)
        assert found is None or format_id(prefix, found) == text.lower()
    seconds = read_retry_after(text)
    assert seconds is None or seconds >= 0


def _http(data: bytes) -> None:
    """Send a whole untrusted request to the whole API."""
    head, _, body = data.partition(b"\n\n")
    method, path, query, kind, *lines = fields(head, 12)
    headers = dict(line.split(":", 1) for line in lines if ":" in line)
    headers.pop("", None)
    verb = _METHODS[len(method) % len(_METHODS)] if method not in _METHODS else method
    environ = environ_of(verb, f"/{path}", query.encode("latin-1"), headers, body, kind)
    started: list[Any] = []
    chunks = api_app().wsgi_app(environ, lambda *args: started.append(args))
    content = b"".join(chunks)
    cast(Any, chunks).close()
    status, sent = int(started[-1][0][:3]), started[-1][1]
    assert status in _ALLOWED_STATUSES, (status, content[:300])
    for name, value in sent:
        assert "\r" not in value and "\n" not in value, name
    # The body of `/readyz` names the broken parts: it has no error object.
    if status >= 400 and verb != "HEAD" and not path.startswith("readyz"):
        error = json.loads(content)["error"]
        assert error["requestId"] == dict(sent)["x-request-id"]


_PATHS = sorted(published_document()["paths"])

TARGETS = (
    Target(
        "headers",
        _headers,
        (
            b"Bearer bc_0123456789ab_" + b"a" * 43 + b"\n\nreq-1\nkey-1\nwait=5, respond-async\n"
            b"198.51.100.1, 2001:db8::1\nhttps\ntext/csv;q=0.5\n"
            b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\na=b",
            b"Bearer ey.ey.x\nbc_0123456789ab_" + b"b" * 43,
        ),
        (
            b"\n",
            b"Bearer ",
            b"bc_",
            b"wait=",
            b"respond-async",
            b'"',
            b";q=",
            b"[::1]",
            b"%",
            b"\\",
        ),
    ),
    Target(
        "query",
        _query,
        (
            b"limit=50&after=gen_" + b"0" * 32 + b"&q=a&from=2026-11-01T12:00:00+02:00&to=2026-12",
            b"userId=user_" + b"f" * 32 + b"&wait=60&status=running&after=2026-11-01",
        ),
        (
            *(b"limit=", b"after=", b"from=", b"to=", b"wait=", b"status=", b"userId=", b"&", b"%"),
            *(b"9999-12-31", b"0001-01-01", b"T23:59:60", b"-W01-1", b"+23:59", b"%00", b"%D9%A1"),
        ),
    ),
    Target(
        "event-id",
        _event_id,
        (b"\x000", b"\x0012:ab3:0", b"\x015:1f:2-0", b"\x070-0-0-0-0-0-0-999999999:ffffffff:0"),
        (b"-", b":", b"0", b"ffffffff"),
    ),
    Target(
        "ids",
        _ids,
        (b"gen_" + b"0aF9" * 8, b"120", b"Fri, 31 Dec 1999 23:59:59 GMT"),
        (b"gen_", b"key_", b"user_", b"msg_", b"batch_", b"file_", b"GMT", b"+9999", b"99:99"),
    ),
    Target(
        "http",
        _http,
        (
            b"GET\nhealthz\n\n\nx-request-id: a",
            b"POST\napi/auth/login\n\napplication/json\nx-api-key: bc_\n\n{}",
            b"GET\napi/keys\nlimit=1\n\nauthorization: Bearer ey",
            b"OPTIONS\napi/llm/generate\n\n\norigin: https://a.example\n"
            b"access-control-request-method: POST\naccess-control-request-headers: authorization",
        ),
        [f"\n{path[1:]}\n".encode() for path in _PATHS]
        + [
            b"\nrange: bytes=0-",
            b"\nif-none-match: ",
            b"\nexpect: 100-continue",
            b"\ntraceparent:",
        ],
    ),
)
