"""The API as a program: its application in gunicorn's processes."""

from __future__ import annotations

from flask import Flask

from api.app import create_app
from api.services import Services
from core.log import configure_logging
from core.settings import Settings
from core.web_server import WebProgram, WebServer


def serve(settings: Settings) -> None:
    """Answer requests until SIGTERM."""

    def load() -> Flask:
        configure_logging(program="api", level=settings.effective_log_level)
        return create_app(Services.from_settings(settings))

    WebServer(
        WebProgram(
            name="bountycoder-api",
            host=settings.api_host,
            port=settings.api_port,
            processes=settings.api_processes,
            grace_seconds=settings.drain_seconds,
            load=load,
        )
    ).run()
