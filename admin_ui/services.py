"""What the pages need of the outside, opened once a process and handed in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import cast
from uuid import UUID

from flask import current_app

from admin_ui.api_client import ServiceApi
from core.config.settings import Settings
from core.limits.limiter import Limiter
from core.limits.state import KeyUse, Recall
from core.limits.throttle import Throttle
from core.queueing.broker import JobQueue
from core.queueing.workers import WorkerRegistry
from core.redis.client import open_redis
from models.database.base import SessionFactory, open_database, sessions
from models.database.statement_count import count_statements
from models.usage.limits import read_key_use


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
    limiter: Limiter
    api: ServiceApi

    @classmethod
    def from_settings(cls, settings: Settings) -> Services:
        client = open_redis(settings)
        return cls(
            settings=settings,
            sessions=sessions(count_statements(open_database(settings, is_serial=True))),
            queue=JobQueue(client),
            workers=WorkerRegistry(client),
            throttle=Throttle(client),
            limiter=Limiter(client),
            api=ServiceApi(settings),
        )

    def recall(self, key_id: UUID) -> Recall:
        """Return what reads a key's use from the database, should Redis have lost it."""

        def read(month_began: datetime) -> KeyUse:
            with self.sessions() as session:
                return read_key_use(session, key_id, month_began)

        return read


def services() -> Services:
    """Return the services of the app that handles this request."""
    return cast(Services, current_app.extensions["bountycoder"])
