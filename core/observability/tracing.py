"""Traces for OpenTelemetry: where the time of one request went, over all programs.

Only where `TRACES_ENDPOINT` is set do we import OpenTelemetry. A request's trace context is
kept in its job's row, in the words of W3C's Trace Context, so that whoever runs the job goes on
with the same trace. With a receiver that is away, spans are lost and nothing else.
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

#: How long one message to the receiver may take, and how often one leaves.
EXPORT_SECONDS = 5.0
EVERY_MS = 1000
#: Of W3C's Trace Context.
HEADER = "traceparent"


def check_tracing(settings: Settings) -> None:
    """Check that what traces need is installed, if they are asked for.

    Raises:
        SettingsError: it is not.
    """
    if settings.traces_endpoint and find_spec("opentelemetry") is None:
        fault = "TRACES_ENDPOINT needs what `pip install 'bountycoder[tracing]'` installs"
        raise SettingsError([fault])


class Traces:
    """Makes the spans of one process and sends them; for a process that has begun its threads."""

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
        """Return the context that headers carry; one without a parent if they carry none."""
        from opentelemetry.context import Context

        return self._carrier.extract(headers, Context())

    def write(self, span: Span) -> str | None:
        """Return the header by which others go on below a span; `None` if nobody records it."""
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
        """Begin a span below what the context says, now or at a time that is past."""
        from opentelemetry.trace import SpanKind

        return self._tracer.start_span(
            name,
            context,
            kind=kind or SpanKind.INTERNAL,
            start_time=nanoseconds(at) if at is not None else None,
            attributes=attributes,
        )

    def below(self, span: Span) -> Context:
        """Return the context of what happens within a span."""
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context

        return set_span_in_context(span, Context())

    def close(self) -> None:
        """Send what waits, and end."""
        self._provider.shutdown()


def nanoseconds(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000) * 1000
