"""What the pages need of the outside, opened once a process and handed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app

from core.queue import JobQueue
from core.redis_client import open_redis
from core.settings import Settings
from core.worker_registry import WorkerRegistry
from models.base import SessionFactory, open_database, sessions


@dataclass(frozen=True, slots=True)
class Services:
    """The admin UI's parts. None of them connects before its first use."""

    settings: Settings
    sessions: SessionFactory
    queue: JobQueue
    workers: WorkerRegistry

    @classmethod
    def from_settings(cls, settings: Settings) -> Services:
        client = open_redis(settings)
        return cls(
            settings=settings,
            sessions=sessions(open_database(settings)),
            queue=JobQueue(client),
            workers=WorkerRegistry(client),
        )


def services() -> Services:
    """Return the services of the app that handles this request."""
    return cast(Services, current_app.extensions["bountycoder"])
