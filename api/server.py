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

    opened: list[Services] = []  # of this process: each of gunicorn's loads its own

    def load() -> Flask:
        configure_logging(program="api", level=settings.effective_log_level)
        opened.append(Services.from_settings(settings))
        return create_app(opened[0])

    def let_go() -> None:
        for services in opened:
            services.news.leave()

    WebServer(
        WebProgram(
            name="bountycoder-api",
            host=settings.api_host,
            port=settings.api_port,
            processes=settings.api_processes,
            grace_seconds=settings.drain_seconds,
            load=load,
            let_go=let_go,
        )
    ).run()
