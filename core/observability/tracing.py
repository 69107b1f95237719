"""Sends traces to OpenTelemetry: where the time of one request went, across all programs.

OpenTelemetry is imported only if `TRACES_ENDPOINT` is set. A request's trace context is stored in
its job's row, in the format of W3C's Trace Context, so that the worker continues the same trace. If
the receiver is away, only spans are lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from core.config.settings import Settings
from core.errors import SettingsError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanKind

#: The timeout of one export, and the interval between exports.
EXPORT_SECONDS = 5.0
EVERY_MS = 1000
#: The header of W3C's Trace Context.
HEADER = "traceparent"


def check_tracing(settings: Settings) -> None:
    """Check that the packages for tracing are installed, if tracing is on.

    Raises:
        SettingsError: they are not installed.
    """
    if settings.traces_endpoint and find_spec("opentelemetry") is None:
        fault = "TRACES_ENDPOINT needs `pip install 'bountycoder[tracing]'`"
        raise SettingsError([fault])


class Traces:
    """Makes and exports the spans of one process; made after the process has forked."""

    def __init__(self, settings: Settings, program: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._carrier = TraceContextTextMapPropagator()
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(settings.traces_sample_ratio)),
            resource=Resource.create(
                {
                    "service.namespace": "bountycoder",
                    "service.name": f"bountycoder-{program}",
                    "service.version": version("bountycoder"),
                }
            ),
        )
        exporter = OTLPSpanExporter(endpoint=settings.traces_endpoint, timeout=EXPORT_SECONDS)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, schedule_delay_millis=EVERY_MS)
        )
        self._tracer = self._provider.get_tracer("bountycoder")

    def read(self, headers: Mapping[str, str]) -> Context:
        """Return the context of the headers, or one without a parent."""
        from opentelemetry.context import Context

        return self._carrier.extract(headers, Context())

    def write(self, span: Span) -> str | None:
        """Return the header that continues a span; `None` if the span is not recorded."""
        if not span.is_recording():
            return None
        context = span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def begin(
        self,
        name: str,
        context: Context,
        *,
        kind: SpanKind | None = None,
        at: datetime | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Span:
        """Begin a span below the context, now or at a past time."""
        from opentelemetry.trace import SpanKind

        return self._tracer.start_span(
            name,
            context,
            kind=kind or SpanKind.INTERNAL,
            start_time=nanoseconds(at) if at is not None else None,
            attributes=attributes,
        )

    def below(self, span: Span) -> Context:
        """Return the context for spans within a span."""
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context

        return set_span_in_context(span, Context())

    def close(self) -> None:
        """Export the waiting spans and stop."""
        self._provider.shutdown()


def nanoseconds(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000) * 1000
