"""What a process of the API measures. How it is shown: `core/metrics_page.py`."""

from __future__ import annotations

from flask import Flask, Request, Response, request
from prometheus_client import CollectorRegistry
from prometheus_flask_exporter import PrometheusMetrics

from core.errors import ApiError
from core.metrics import (
    METHODS,
    PREFIX,
    REQUEST_SECONDS,
    UNMATCHED,
    JobCounts,
    counter,
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


def measure_requests(app: Flask) -> None:
    """Measure every request; called before anything else is to be done with one."""
    in_progress = requests_in_progress()

    def begin() -> None:
        in_progress.inc()
        if request.method not in METHODS:
            request.prom_do_not_track = True  # type: ignore[attr-defined]  # the exporter's own

    def end(response: Response) -> Response:
        response.call_on_close(in_progress.dec)  # a stream goes on until then
        return response

    app.before_request(begin)
    app.after_request(end)
    PrometheusMetrics(
        app,
        path=None,
        group_by=route,
        defaults_prefix=PREFIX,
        buckets=REQUEST_SECONDS,
        registry=CollectorRegistry(),
    )


def route(request: Request) -> str:
    """Return the pattern that a request matched; its name is the label's."""
    rule = request.url_rule
    return rule.rule if rule is not None else UNMATCHED
