"""One trace for each request, through all programs, as an OpenTelemetry collector gets it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from core.config.settings import Settings
from tests.support.polling import wait_until
from tests.support.service import Service

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"  # pragma: allowlist secret
PARENT = "00f067aa0ba902b7"
PROMPT = "a secret about zanzibar"
BODY = {"prompt": PROMPT, "maxTokens": 8}


class SpanReceiver:
    """Receives spans by OTLP over HTTP, as a collector does."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.spans: list[tuple[str, Span]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.take(body)
                response = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(response)))
                self.end_headers()
                self.wfile.write(response)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @classmethod
    @contextmanager
    def listening(cls) -> Iterator[SpanReceiver]:
        receiver = cls()
        thread = threading.Thread(target=receiver.server.serve_forever, daemon=True)
        thread.start()
        yield receiver
        receiver.server.shutdown()
        receiver.server.server_close()
        thread.join(5)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1/traces"

    def take(self, body: bytes) -> None:
        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            attributes = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [(attributes["service.name"], span) for span in scope.spans]

    def trace(self, trace_id: str) -> dict[str, tuple[str, Span]]:
        """Return the spans of a trace by name, each with its program."""
        wanted = bytes.fromhex(trace_id)
        return {span.name: (of, span) for of, span in list(self.spans) if span.trace_id == wanted}

    def whole(self, trace_id: str, *, spans: int) -> dict[str, tuple[str, Span]]:
        """Return a trace once it has so many spans."""
        wait_until(lambda: len(self.trace(trace_id)) >= spans, 15, lambda: str(self.spans))
        return self.trace(trace_id)

    def named(self, name: str) -> Span:
        """Return the only span of this name, once it has arrived."""

        def found() -> list[Span]:
            return [span for _, span in list(self.spans) if span.name == name]

        wait_until(found, 15, lambda: str(self.spans))
        (span,) = found()
        return span


@pytest.fixture(scope="module")
def receiver() -> Iterator[SpanReceiver]:
    with SpanReceiver.listening() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def traced(
    receiver: SpanReceiver, base_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service with slow completions, so that each stage takes measurable time."""
    changes = {"traces_endpoint": receiver.url, "echo_tokens_per_second": 50.0}
    with Service.started(base_settings, tmp_path_factory.mktemp("traced"), **changes) as service:
        service.start_over()
        yield service


def generate(service: Service, trace_id: str, **body: Any) -> dict[str, Any]:
    headers = {
        "x-api-key": service.make_key()["secret"],
        "traceparent": f"00-{trace_id}-{PARENT}-01",
        "x-request-id": "the-traced-one",
    }
    response = service.call("POST", "/api/llm/generate", json={**BODY, **body}, headers=headers)
    assert response.status_code == 200, response.text
    return dict(response.json()) if not body.get("stream") else {}


def test_one_trace_goes_from_the_caller_to_the_engine(
    traced: Service, receiver: SpanReceiver
) -> None:
    completion = generate(traced, TRACE)

    spans = receiver.whole(TRACE, spans=5)
    model = traced.settings.model_name
    request, admit, queue, generation, end = (
        spans[name]
        for name in ("POST /api/llm/generate", "admit", "queue", f"generate {model}", "end")
    )
    assert request[1].parent_span_id == bytes.fromhex(PARENT)
    assert request[1].kind == Span.SPAN_KIND_SERVER
    for span in (admit, queue, generation, end):
        assert span[1].parent_span_id == request[1].span_id
    assert [of for of, _ in (request, admit)] == ["bountycoder-api"] * 2
    assert [of for of, _ in (queue, generation, end)] == ["bountycoder-worker"] * 3
    assert queue[1].end_time_unix_nano == generation[1].start_time_unix_nano
    assert generation[1].end_time_unix_nano == end[1].start_time_unix_nano
    assert request[1].start_time_unix_nano <= admit[1].start_time_unix_nano
    assert end[1].start_time_unix_nano <= request[1].end_time_unix_nano
    (event,) = generation[1].events
    assert event.name == "first token"
    times = (generation[1].start_time_unix_nano, generation[1].end_time_unix_nano)
    assert times[0] < event.time_unix_nano < times[1]
    attributes = {a.key: a.value for a in generation[1].attributes}
    usage = completion["usage"]
    assert attributes["gen_ai.usage.input_tokens"].int_value == usage["prompt_tokens"]
    assert attributes["gen_ai.usage.output_tokens"].int_value == usage["completion_tokens"]
    assert attributes["bountycoder.job.id"].string_value == completion["id"]
    assert attributes["bountycoder.request_id"].string_value == "the-traced-one"


def test_a_stream_is_traced_until_its_end(traced: Service, receiver: SpanReceiver) -> None:
    trace_id = TRACE[::-1]

    generate(traced, trace_id, stream=True)

    spans = receiver.whole(trace_id, spans=5)
    request = spans["POST /api/llm/generate"][1]
    assert request.end_time_unix_nano >= spans["end"][1].start_time_unix_nano


def test_a_request_without_a_trace_begins_one(traced: Service, receiver: SpanReceiver) -> None:
    traced.call("GET", "/api/llm/jobs/gen_0", headers={"traceparent": "00-nonsense"})

    span = receiver.named("GET /api/llm/jobs/<job_id>")
    assert span.parent_span_id == b""
    assert span.trace_id != bytes(16)


def test_a_request_that_its_caller_does_not_sample_is_not_traced(
    traced: Service, receiver: SpanReceiver
) -> None:
    trace_id = "1" * 32
    headers = {"traceparent": f"00-{trace_id}-{PARENT}-00"}
    traced.call("GET", "/healthz", headers=headers)
    generate(traced, "2" * 32)

    receiver.whole("2" * 32, spans=5)
    assert receiver.trace(trace_id) == {}


def test_no_prompt_and_no_secret_is_in_a_span(traced: Service, receiver: SpanReceiver) -> None:
    trace_id = "3" * 32
    generate(traced, trace_id)

    receiver.whole(trace_id, spans=5)
    everything = b"".join(receiver.bodies)
    assert b"zanzibar" not in everything
    assert b"bc_" not in everything
    assert traced.settings.secret_key.get_secret_value().encode() not in everything
