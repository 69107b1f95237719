"""The metrics of one API process; `core/observability/metrics_page.py` publishes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Flask, Request, request
from prometheus_client import CollectorRegistry, Counter
from prometheus_flask_exporter import PrometheusMetrics
from werkzeug.wsgi import ClosingIterator

from core.errors import ApiError
from core.observability.metrics import (
    METHODS,
    PREFIX,
    REQUEST_SECONDS,
    UNMATCHED,
    EndedJobs,
    Histogram,
    counter,
    histogram,
    requests_in_progress,
)
from models.batches.batch import Batch
from models.jobs.job import FINAL_STATES, JobState


class ApiMetrics:
    """The instruments of one process."""

    def __init__(self) -> None:
        self.jobs = EndedJobs(FINAL_STATES)
        self._errors = counter("http_errors", "Responses with an error.", ["code", "route"])
        self._batches = counter("batches_accepted", "Batches accepted.")
        self._lines = counter("batch_lines_accepted", "Lines of batches accepted.")

    def error_returned(self, error: ApiError) -> None:
        """Count the error response of the current request."""
        self._errors.labels(error.code, route(request)).inc()

    def batch_accepted(self, batch: Batch) -> None:
        """Count a new batch; its refused lines have ended already."""
        self._batches.inc()
        self._lines.inc(batch.total)
        if batch.failed:
            self.jobs.count("bulk", JobState.FAILED, batch.failed)


class RequestMetrics(PrometheusMetrics):  # type: ignore[misc]  # the exporter has no annotations
    """The exporter, which measures around the application at a fraction of the cost.

    The exporter's own hooks read Flask's proxies a dozen times for each request. They cost more
    than the measurement.
    """

    def __init__(self, app: Flask) -> None:
        """Measure every request; call it before the application gets other wrappers."""
        super().__init__(app, path=None, defaults_prefix=PREFIX, registry=CollectorRegistry())

    def export_defaults(self, *, app: Flask, prefix: str, **options: Any) -> None:
        self.info(f"{prefix}_exporter_info", "The Flask exporter.", version=self.version)
        self._in_progress = requests_in_progress()
        self._seconds = histogram(
            "http_request_duration_seconds",
            "Time to the head of a response.",
            REQUEST_SECONDS,
            ["method", "route", "status"],
        )
        self._requests = counter("http_request", "Requests completed.", ["method", "status"])
        self._series: dict[tuple[str, str, str], tuple[Histogram, Counter]] = {}
        self._app = app.wsgi_app
        app.wsgi_app = self._measured_app  # type: ignore[method-assign]

    def _measured_app(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        began = time.perf_counter()

        def start(status: str, *head: Any) -> Callable[[bytes], object]:
            self._count(environ, status, time.perf_counter() - began)
            return start_response(status, *head)

        self._in_progress.inc()
        try:
            body = self._app(environ, start)
        except BaseException:  # also if the greenlet was stopped: the request has ended
            self._in_progress.dec()
            raise
        return ClosingIterator(body, self._in_progress.dec)  # a stream ends then

    def _count(self, environ: WSGIEnvironment, status: str, seconds: float) -> None:
        method, code = environ["REQUEST_METHOD"], status[:3]
        if method not in METHODS:
            return
        series = (method, route(environ["werkzeug.request"]), code)
        if series not in self._series:
            self._series[series] = (
                self._seconds.labels(*series),
                self._requests.labels(method, code),
            )
        of_route, of_all = self._series[series]
        of_route.observe(seconds)
        of_all.inc()


def route(request: Request) -> str:
    """Return the route that a request matched."""
    rule = request.url_rule
    return rule.rule if rule is not None else UNMATCHED
