"""Connections and clients of the pages, created once in a process."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import cast
from uuid import UUID

from flask import current_app

from admin_ui.api_client import ApiClient
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
class PageServices:
    """The services that views use. None connects before its first use.

    Attributes:
        sessions: for reads; changes go through `api`, except browser sessions and the audit entries
            of failed sign-ins.
    """

    settings: Settings
    sessions: SessionFactory
    queue: JobQueue
    workers: WorkerRegistry
    throttle: Throttle
    limiter: Limiter
    api: ApiClient

    @classmethod
    def from_settings(cls, settings: Settings) -> PageServices:
        client = open_redis(settings)
        return cls(
            settings=settings,
            sessions=sessions(count_statements(open_database(settings, is_serial=True))),
            queue=JobQueue(client),
            workers=WorkerRegistry(client),
            throttle=Throttle(client),
            limiter=Limiter(client),
            api=ApiClient(settings),
        )

    def recall(self, key_id: UUID) -> Recall:
        """Return a function that reads a key's use from the database if Redis has lost it."""

        def read(month_began: datetime) -> KeyUse:
            with self.sessions() as session:
                return read_key_use(session, key_id, month_began)

        return read


def services() -> PageServices:
    """Return the services of the current application."""
    return cast(PageServices, current_app.extensions["bountycoder"])
