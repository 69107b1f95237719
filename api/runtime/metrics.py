"""What a process of the API measures. How it is shown: `core/observability/metrics_page.py`."""

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
        self._errors = counter("http_errors", "Answers with an error.", ["code", "route"])
        self._batches = counter("batches_accepted", "Batches taken.")
        self._lines = counter("batch_lines_accepted", "Lines of batches taken.")

    def refused(self, error: ApiError) -> None:
        """Count the present request's answer with an error."""
        self._errors.labels(error.code, route(request)).inc()

    def batch_accepted(self, batch: Batch) -> None:
        """Count a new batch; lines that were refused have ended already."""
        self._batches.inc()
        self._lines.inc(batch.total)
        if batch.failed:
            self.jobs.count("bulk", JobState.FAILED, batch.failed)


class RequestMetrics(PrometheusMetrics):  # type: ignore[misc]  # the exporter has no annotations
    """The exporter, with the same metrics taken around the application: for a fraction of the time.

    Flask's hooks, and the proxies that the exporter's look at a dozen times for each request, cost
    more than what they are for.
    """

    def __init__(self, app: Flask) -> None:
        """Measure every request; called before anything else is put around the application."""
        super().__init__(app, path=None, defaults_prefix=PREFIX, registry=CollectorRegistry())

    def export_defaults(self, *, app: Flask, prefix: str, **options: Any) -> None:
        self.info(f"{prefix}_exporter_info", "The Flask exporter.", version=self.version)
        self._in_progress = requests_in_progress()
        self._seconds = histogram(
            "http_request_duration_seconds",
            "Time to the head of an answer.",
            REQUEST_SECONDS,
            ["method", "route", "status"],
        )
        self._requests = counter("http_request", "Requests answered.", ["method", "status"])
        self._known: dict[tuple[str, str, str], tuple[Histogram, Counter]] = {}
        self._app = app.wsgi_app
        app.wsgi_app = self._answer  # type: ignore[method-assign]

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        began = time.perf_counter()

        def start(status: str, *head: Any) -> Callable[[bytes], object]:
            self._count(environ, status, time.perf_counter() - began)
            return start_response(status, *head)

        self._in_progress.inc()
        try:
            body = self._app(environ, start)
        except BaseException:
            self._in_progress.dec()
            raise
        return ClosingIterator(body, self._in_progress.dec)  # a stream goes on until then

    def _count(self, environ: WSGIEnvironment, status: str, seconds: float) -> None:
        method, code = environ["REQUEST_METHOD"], status[:3]
        if method not in METHODS:
            return
        series = (method, route(environ["werkzeug.request"]), code)
        if series not in self._known:
            self._known[series] = (
                self._seconds.labels(*series),
                self._requests.labels(method, code),
            )
        of_route, of_all = self._known[series]
        of_route.observe(seconds)
        of_all.inc()


def route(request: Request) -> str:
    """Return the pattern that a request matched."""
    rule = request.url_rule
    return rule.rule if rule is not None else UNMATCHED
