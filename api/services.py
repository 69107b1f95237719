"""Everything that a view needs of the outside, opened once a process and handed in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import cast
from uuid import UUID

import redis
from flask import current_app

from api.runtime.cancellation import Cancels
from api.runtime.large_requests import LargeRequests
from api.runtime.metrics import ApiMetrics
from api.runtime.prompt_count import PromptCounter
from api.runtime.tracing import RequestTraces, SentTraces
from api.runtime.upload_slots import MOST_AT_ONCE, Uploads
from api.runtime.user_slots import OpenPerUser
from core.completion.announce import JobEnds
from core.completion.response_cache import AnswerCache
from core.config.settings import Settings
from core.events.job_events import JobNews
from core.limits.limiter import Limiter
from core.limits.minute_counts import MinuteCounts
from core.limits.state import KeyUse, Recall
from core.limits.throttle import Throttle
from core.observability.tracing import Traces
from core.prompts.tokenizer import PromptTokenizer
from core.queueing.backlog import Line
from core.queueing.broker import JobQueue
from core.queueing.workers import WorkerRegistry
from core.redis.client import open_redis
from core.redis.scripts import Scripts
from models.accounts.key_cache import PresentedKeys
from models.database.base import SessionFactory, open_database, sessions
from models.database.prepared import Statements
from models.jobs.inserts import JobInserts
from models.jobs.queue_positions import LinePlaces
from models.jobs.reads import JobReads
from models.usage.limits import read_key_use


@dataclass(frozen=True, slots=True)
class Services:
    """The API's parts. None of them connects before its first use.

    Attributes:
        reads: sessions in which each statement is its own transaction, for a single read.
        statements: what every generation runs.
        keys: those that generations come with.
        inserts: adds their jobs.
        looks: reads how far they are.
        places: counts who waits before them.
        waits: connections that each user has waiting or streaming in this process.
        batch_sessions: for the long transactions of batches, which would take too much of others'.
    """

    settings: Settings
    sessions: SessionFactory
    reads: SessionFactory
    statements: Statements
    keys: PresentedKeys
    inserts: JobInserts
    looks: JobReads
    places: LinePlaces
    tokenizer: PromptTokenizer
    counter: PromptCounter
    queue: JobQueue
    news: JobNews
    ends: JobEnds
    answers: AnswerCache
    waits: OpenPerUser
    cancels: Cancels
    redis_client: redis.Redis
    limiter: Limiter
    minute_counts: MinuteCounts
    workers: WorkerRegistry
    line: Line
    throttle: Throttle
    uploads: Uploads
    large_requests: LargeRequests
    batch_sessions: SessionFactory
    metrics: ApiMetrics
    traces: RequestTraces

    @classmethod
    def from_settings(cls, settings: Settings) -> Services:
        client = open_redis(settings)
        transactions = open_database(settings, pool_size=max(2, settings.database_pool_size // 2))
        single = open_database(settings, is_autocommit=True)
        # Sessions share its connections.
        statements = Statements(single, keeps=min(2, settings.database_pool_size // 4))
        metrics = ApiMetrics()
        ends = JobEnds(client, count=metrics.jobs.ended)
        scripts = Scripts(client)
        tokenizer = PromptTokenizer.load(settings.model_path, settings.prompt_mode)
        queue, workers = JobQueue(client, scripts=scripts), WorkerRegistry(client)
        return cls(
            settings=settings,
            sessions=sessions(transactions),
            reads=sessions(single),
            statements=statements,
            keys=PresentedKeys(statements),
            inserts=JobInserts(statements, timeout_seconds=settings.database_timeout_seconds),
            looks=JobReads(statements, timeout_seconds=settings.database_timeout_seconds),
            places=LinePlaces(statements),
            tokenizer=tokenizer,
            counter=PromptCounter(tokenizer),
            queue=queue,
            news=JobNews(client),
            ends=ends,
            waits=OpenPerUser(settings.max_waits_per_user),
            cancels=Cancels(sessions(transactions), client, ends),
            answers=AnswerCache.from_settings(settings, client),
            redis_client=client,
            limiter=Limiter(client, scripts=scripts),
            minute_counts=MinuteCounts(client, scripts=scripts),
            workers=workers,
            line=Line(
                queue,
                workers,
                max_seconds=settings.max_queue_seconds,
                max_length=settings.max_queue_length,
            ),
            throttle=Throttle(client),
            uploads=Uploads(),
            large_requests=LargeRequests(),
            batch_sessions=sessions(open_database(settings, pool_size=MOST_AT_ONCE)),
            metrics=metrics,
            traces=SentTraces(Traces(settings, "api"))
            if settings.traces_endpoint
            else RequestTraces(),
        )

    def context_length(self) -> int:
        """Return the tokens that prompt and answer may have: in the model, and in ready workers.

        Raises:
            redis.RedisError: what workers say cannot be read.
        """
        of_model = self.tokenizer.context_length
        return min(of_model, self.line.context_length() or of_model)

    def recall(self, key_id: UUID) -> Recall:
        """Return what reads a key's use from the database, should Redis have lost it."""

        def read(month_began: datetime) -> KeyUse:
            with self.sessions() as session:
                return read_key_use(session, key_id, month_began)

        return read


def services() -> Services:
    """Return the services of the app that handles this request."""
    return cast(Services, current_app.extensions["bountycoder"])
