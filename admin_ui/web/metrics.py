"""Metrics of the admin UI; `core/observability/metrics_page.py` exposes them."""

from __future__ import annotations

from flask import Flask, Request, Response, request
from prometheus_client import CollectorRegistry
from prometheus_flask_exporter import PrometheusMetrics

from core.observability.metrics import (
    METHODS,
    PREFIX,
    REQUEST_SECONDS,
    UNMATCHED,
    requests_in_progress,
)


def measure_requests(app: Flask) -> None:
    """Measure every request; call it before other handlers are registered."""
    in_progress = requests_in_progress()

    def begin() -> None:
        in_progress.inc()
        if request.method not in METHODS:
            request.prom_do_not_track = True  # type: ignore[attr-defined]  # the exporter's own

    def end(response: Response) -> Response:
        response.call_on_close(in_progress.dec)
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
    """Return the URL pattern that a request matched.

    The exporter uses the name of this function as the name of the label.
    """
    rule = request.url_rule
    return rule.rule if rule is not None else UNMATCHED
