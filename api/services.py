"""Everything that a view needs of the outside, opened once a process and handed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app

from core.job_ends import JobEnds
from core.prompt import PromptTokenizer
from core.queue import JobQueue
from core.rate_limit import RateLimiter
from core.redis_client import open_redis
from core.settings import Settings
from core.worker_registry import WorkerRegistry
from models.base import SessionFactory, open_database, sessions


@dataclass(frozen=True, slots=True)
class Services:
    """The API's parts. None of them connects before its first use."""

    settings: Settings
    sessions: SessionFactory
    tokenizer: PromptTokenizer
    queue: JobQueue
    ends: JobEnds
    limiter: RateLimiter
    workers: WorkerRegistry

    @classmethod
    def from_settings(cls, settings: Settings) -> Services:
        client = open_redis(settings)
        return cls(
            settings=settings,
            sessions=sessions(open_database(settings)),
            tokenizer=PromptTokenizer.load(settings.model_path, settings.prompt_mode),
            queue=JobQueue(client),
            ends=JobEnds(client),
            limiter=RateLimiter(client),
            workers=WorkerRegistry(client),
        )


def services() -> Services:
    """Return the services of the app that handles this request."""
    return cast(Services, current_app.extensions["bountycoder"])
