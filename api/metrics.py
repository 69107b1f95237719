"""What a process of the API measures. How it is shown: `core/metrics_page.py`."""

from __future__ import annotations

import time
from typing import Any

from flask import Flask, Request, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_flask_exporter import PrometheusMetrics

from core.errors import ApiError
from core.metrics import (
    METHODS,
    PREFIX,
    REQUEST_SECONDS,
    UNMATCHED,
    JobCounts,
    counter,
    histogram,
    requests_in_progress,
)
from models.batch import Batch
from models.job import JobState


class ApiMetrics:
    """The instruments of one process."""

    def __init__(self) -> None:
        self.jobs = JobCounts()
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
            self.jobs.ended("bulk", JobState.FAILED, batch.failed)


class RequestMetrics(PrometheusMetrics):  # type: ignore[misc]  # the exporter has no annotations
    """The exporter with hooks of its own: the same metrics for a quarter of the time.

    Those that it brings look at Flask's proxies a dozen times for each request.
    """

    def __init__(self, app: Flask) -> None:
        """Measure every request; called before anything else is to be done with one."""
        self._in_progress = requests_in_progress()
        self._known: dict[tuple[str, str, int], tuple[Histogram, Counter]] = {}
        super().__init__(app, path=None, defaults_prefix=PREFIX, registry=CollectorRegistry())

    def export_defaults(self, *, app: Flask, prefix: str, **options: Any) -> None:
        self.info(f"{prefix}_exporter_info", "The Flask exporter.", version=self.version)
        self._seconds = histogram(
            "http_request_duration_seconds",
            "Time to the head of an answer.",
            REQUEST_SECONDS,
            ["method", "route", "status"],
        )
        self._requests = counter("http_request", "Requests answered.", ["method", "status"])
        app.before_request(self._begin)
        app.after_request(self._end)

    def _begin(self) -> None:
        g.measured_since = time.perf_counter()
        self._in_progress.inc()

    def _end(self, response: Response) -> Response:
        response.call_on_close(self._in_progress.dec)  # a stream goes on until then
        method = request.method
        if method in METHODS:
            seconds, requests = self._of(method, route(request), response.status_code)
            seconds.observe(time.perf_counter() - g.measured_since)
            requests.inc()
        return response

    def _of(self, method: str, route: str, status: int) -> tuple[Histogram, Counter]:
        known = self._known.get((method, route, status))
        if known is None:
            known = (
                self._seconds.labels(method, route, status),
                self._requests.labels(method, status),
            )
            self._known[method, route, status] = known
        return known


def route(request: Request) -> str:
    """Return the pattern that a request matched."""
    rule = request.url_rule
    return rule.rule if rule is not None else UNMATCHED
