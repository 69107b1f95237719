"""What the pages need of the outside, opened once a process and handed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app

from admin_ui.service_api import ServiceApi
from core.queue import JobQueue
from core.redis_client import open_redis
from core.settings import Settings
from core.throttle import Throttle
from core.worker_registry import WorkerRegistry
from models.base import SessionFactory, open_database, sessions
from models.statement_count import count_statements


@dataclass(frozen=True, slots=True)
class Services:
    """The admin UI's parts. None of them connects before its first use.

    Attributes:
        sessions: for reading; what changes the service goes through `api`.
    """

    settings: Settings
    sessions: SessionFactory
    queue: JobQueue
    workers: WorkerRegistry
    throttle: Throttle
    api: ServiceApi

    @classmethod
    def from_settings(cls, settings: Settings) -> Services:
        client = open_redis(settings)
        return cls(
            settings=settings,
            sessions=sessions(count_statements(open_database(settings))),
            queue=JobQueue(client),
            workers=WorkerRegistry(client),
            throttle=Throttle(client),
            api=ServiceApi(settings),
        )


def services() -> Services:
    """Return the services of the app that handles this request."""
    return cast(Services, current_app.extensions["bountycoder"])
