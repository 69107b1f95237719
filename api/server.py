"""Runs the API: its application in processes of gunicorn."""

from __future__ import annotations

from flask import Flask

from api.app import create_app
from api.runtime.service_metrics import ServiceMetrics
from api.services import Services
from core.config.settings import Settings
from core.observability.logs import configure_logging
from core.observability.metric_files import MetricFiles
from core.observability.metrics import layout
from core.observability.metrics_page import metrics_page
from core.observability.tracing import check_tracing
from core.web.server import InternalPort, WebProgram, WebServer


def serve(settings: Settings) -> None:
    """Serve requests until SIGTERM.

    Raises:
        SettingsError: a package that a setting needs is not installed.
    """
    check_tracing(settings)
    if not settings.api_metrics_port:
        _serve(settings, None)
        return
    name = f"api-{settings.api_metrics_port}"
    with MetricFiles.opened(settings.metrics_dir, name, layout=layout()) as files:
        _serve(settings, files)


def _serve(settings: Settings, files: MetricFiles | None) -> None:
    opened: list[Services] = []  # of this process: each process of gunicorn loads its own

    def load() -> Flask:
        configure_logging(program="api", level=settings.effective_log_level)
        if files is not None:
            files.claim_slot()  # before any instrument is made
        opened.append(Services.from_settings(settings))
        return create_app(opened[0])

    def end_waits() -> None:
        for services in opened:
            services.jobs.events.end_waits()

    internal = None
    if files is not None:
        internal = InternalPort(
            settings.metrics_host,
            settings.api_metrics_port,
            load=lambda: metrics_page("api", files, [ServiceMetrics(settings)]),
        )
    WebServer(
        WebProgram(
            name="bountycoder-api",
            host=settings.api_host,
            port=settings.api_port,
            processes=settings.api_processes,
            grace_seconds=settings.drain_seconds,
            load=load,
            end_waits=end_waits,
            internal=internal,
        )
    ).run()
