"""Runs the admin UI in one gunicorn process."""

from __future__ import annotations

from flask import Flask

from admin_ui.app import create_app
from admin_ui.services import PageServices
from core.config.settings import Settings
from core.observability.logs import configure_logging
from core.observability.metric_files import MetricFiles
from core.observability.metrics import layout
from core.observability.metrics_page import metrics_page
from core.web.server import InternalPort, WebProgram, WebServer


def serve(settings: Settings) -> None:
    """Serve requests until SIGTERM."""
    if not settings.admin_metrics_port:
        _serve(settings, None)
        return
    name = f"admin-ui-{settings.admin_metrics_port}"
    with MetricFiles.opened(settings.metrics_dir, name, layout=layout()) as files:
        _serve(settings, files)


def _serve(settings: Settings, files: MetricFiles | None) -> None:
    def load() -> Flask:
        configure_logging(program="admin-ui", level=settings.effective_log_level)
        if files is not None:
            files.claim_slot()  # before any instrument is made
        return create_app(PageServices.from_settings(settings))

    internal = None
    if files is not None:
        internal = InternalPort(
            settings.metrics_host,
            settings.admin_metrics_port,
            load=lambda: metrics_page("admin-ui", files),
        )
    WebServer(
        WebProgram(
            name="bountycoder-admin",
            host=settings.admin_host,
            port=settings.admin_port,
            processes=1,
            grace_seconds=settings.drain_seconds,
            load=load,
            internal=internal,
        )
    ).run()
