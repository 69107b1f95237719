"""Serves the API with gunicorn: processes of greenlets, so that waiting requests cost no thread."""

from __future__ import annotations

from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from api.app import create_app
from api.services import Services
from core.log import configure_logging
from core.settings import Settings

#: Requests that one process holds open at once; most of them only wait.
CONNECTIONS_PER_PROCESS = 2000
BACKLOG = 2048
#: A process whose greenlets have not run for this long is replaced.
STALL_SECONDS = 30


class ApiServer(BaseApplication):  # type: ignore[misc]
    """gunicorn, configured by our settings and by nothing else."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        settings = self._settings
        options: dict[str, Any] = {
            "bind": f"{settings.api_host}:{settings.api_port}",
            "workers": settings.api_processes,
            "worker_class": "gevent",
            "worker_connections": CONNECTIONS_PER_PROCESS,
            "backlog": BACKLOG,
            "timeout": STALL_SECONDS,
            "graceful_timeout": round(settings.drain_seconds),
            "keepalive": 75,
            "loglevel": "warning",
            "proc_name": "bountycoder-api",
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        configure_logging(program="api", level=self._settings.log_level)
        return create_app(Services.from_settings(self._settings))
