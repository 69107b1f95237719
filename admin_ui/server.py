"""The admin UI as a program: its application in one of gunicorn's processes."""

from __future__ import annotations

from flask import Flask

from admin_ui.app import create_app
from admin_ui.services import Services
from core.log import configure_logging
from core.settings import Settings
from core.web_server import WebProgram, WebServer


def serve(settings: Settings) -> None:
    """Answer requests until SIGTERM."""

    def load() -> Flask:
        configure_logging(program="admin-ui", level=settings.effective_log_level)
        return create_app(Services.from_settings(settings))

    WebServer(
        WebProgram(
            name="bountycoder-admin",
            host=settings.admin_host,
            port=settings.admin_port,
            processes=1,
            grace_seconds=settings.drain_seconds,
            load=load,
        )
    ).run()
