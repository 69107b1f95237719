"""Creates the spans of a request: the request itself, and its admission."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flask import Flask, Response, g, request

from core.observability.metrics import UNMATCHED
from core.observability.tracing import Traces

if TYPE_CHECKING:
    from opentelemetry.trace import Span


class RequestTraces:
    """Traces nothing; the service uses it without `TRACES_ENDPOINT`."""

    def register(self, app: Flask) -> None:
        """Trace every request; call it before other hooks are registered."""

    def header(self) -> str | None:
        """Return the `traceparent` for a job of the current request."""
        return None

    @contextmanager
    def admitting(self) -> Iterator[None]:
        """Trace the block as the admission of the current request's job."""
        yield


class SentTraces(RequestTraces):
    """Traces every request, as a child of its `traceparent` if it has one."""

    def __init__(self, traces: Traces) -> None:
        self._traces = traces

    def register(self, app: Flask) -> None:
        app.before_request(self._begin)
        app.after_request(self._end)

    def header(self) -> str | None:
        return self._traces.write(self._span())

    @contextmanager
    def admitting(self) -> Iterator[None]:
        span = self._traces.begin("admit", self._traces.below(self._span()))
        try:
            yield
        finally:
            span.end()

    def _begin(self) -> None:
        from opentelemetry.trace import SpanKind

        route = request.url_rule.rule if request.url_rule is not None else UNMATCHED
        g.span = self._traces.begin(
            f"{request.method} {route}",
            self._traces.read({k.lower(): v for k, v in request.headers.items()}),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": request.method, "http.route": route},
        )

    def _end(self, response: Response) -> Response:
        from opentelemetry.trace import StatusCode

        span = self._span()
        span.set_attribute("http.response.status_code", response.status_code)
        span.set_attribute("bountycoder.request_id", response.headers.get("x-request-id", ""))
        if response.status_code >= 500:
            span.set_status(StatusCode.ERROR)
        response.call_on_close(span.end)  # a stream ends then
        return response

    def _span(self) -> Span:
        span: Span = g.span
        return span
