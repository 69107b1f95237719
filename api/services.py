"""The objects that views work with, opened once a process and passed to `create_app`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import cast
from uuid import UUID

import redis
from flask import current_app

from api.runtime.cancellation import JobCancellation
from api.runtime.large_requests import LargeRequestLock
from api.runtime.metrics import ApiMetrics
from api.runtime.prompt_count import PromptCounter
from api.runtime.tracing import RequestTraces, SentTraces
from api.runtime.upload_slots import MAX_WRITERS, UploadSlots
from api.runtime.user_slots import UserSlots
from core.completion.announce import EndAnnouncer
from core.completion.response_cache import ResponseCache
from core.config.settings import Settings
from core.events.job_events import JobEvents
from core.limits.limiter import Limiter
from core.limits.minute_counts import MinuteLimiter
from core.limits.state import KeyUse, Recall
from core.limits.throttle import Throttle
from core.observability.tracing import Traces
from core.prompts.tokenizer import PromptTokenizer
from core.queueing.backlog import Backlog
from core.queueing.broker import JobQueue
from core.queueing.workers import WorkerRegistry
from core.redis.client import open_redis
from core.redis.scripts import Scripts
from models.accounts.key_cache import KeyCache
from models.database.base import SessionFactory, open_database, sessions
from models.database.prepared import Statements
from models.jobs.inserts import JobInserts
from models.jobs.queue_positions import QueuePositions
from models.jobs.reads import JobReads
from models.usage.limits import read_key_use


@dataclass(frozen=True, slots=True)
class DatabaseServices:
    """Ways to the database.

    Attributes:
        sessions: transactions of requests.
        autocommit: sessions in which each statement is a transaction, for a single read.
        statements: prepared statements on the connections of `autocommit`; every generation runs
            them.
        batch_sessions: a pool for the long transactions of batches, so that these do not use up
            the connections of other requests.
    """

    sessions: SessionFactory
    autocommit: SessionFactory
    statements: Statements
    batch_sessions: SessionFactory

    @classmethod
    def from_settings(cls, settings: Settings) -> DatabaseServices:
        transactions = open_database(settings, pool_size=max(2, settings.database_pool_size // 2))
        single = open_database(settings, is_autocommit=True)
        # Sessions share the pool of `single`, so the statements hold only a part of it.
        statements = Statements(single, max_idle=min(2, settings.database_pool_size // 4))
        return cls(
            sessions=sessions(transactions),
            autocommit=sessions(single),
            statements=statements,
            batch_sessions=sessions(open_database(settings, pool_size=MAX_WRITERS)),
        )


@dataclass(frozen=True, slots=True)
class JobServices:
    """The life of a job: its insert, the queue, reads of its state, and its end.

    Attributes:
        events: subscriptions to the text and the ends of jobs.
        completion: settles limits and publishes events when a job ends without a worker.
    """

    inserts: JobInserts
    reads: JobReads
    queue: JobQueue
    queue_positions: QueuePositions
    events: JobEvents
    completion: EndAnnouncer
    cancellation: JobCancellation
    response_cache: ResponseCache


@dataclass(frozen=True, slots=True)
class PromptServices:
    """The model's tokenizer, and the threads that count prompts with it."""

    tokenizer: PromptTokenizer
    counter: PromptCounter


@dataclass(frozen=True, slots=True)
class LimitServices:
    """Bounds of the whole service, counted in Redis.

    Attributes:
        limiter: the limits of keys.
        minute_counts: polls, writes and uploaded bytes a minute.
        throttle: attempts to sign in or register.
        backlog: the length of the queue in seconds of work.
    """

    limiter: Limiter
    minute_counts: MinuteLimiter
    throttle: Throttle
    backlog: Backlog


@dataclass(frozen=True, slots=True)
class SlotServices:
    """Bounds of this process.

    Attributes:
        connections: those of each user that wait or stream.
        uploads: files that this process receives.
        large_requests: bodies that take long to parse.
    """

    connections: UserSlots
    uploads: UploadSlots
    large_requests: LargeRequestLock


@dataclass(frozen=True, slots=True)
class Services:
    """All services of the API. None of them connects before its first use.

    Attributes:
        keys: looks up and caches the keys of generations.
    """

    settings: Settings
    database: DatabaseServices
    redis_client: redis.Redis
    keys: KeyCache
    jobs: JobServices
    prompts: PromptServices
    limits: LimitServices
    slots: SlotServices
    workers: WorkerRegistry
    metrics: ApiMetrics
    traces: RequestTraces

    @classmethod
    def from_settings(cls, settings: Settings) -> Services:
        database = DatabaseServices.from_settings(settings)
        client = open_redis(settings)
        scripts = Scripts(client)
        metrics = ApiMetrics()
        tokenizer = PromptTokenizer.load(settings.model_path, settings.prompt_mode)
        queue, workers = JobQueue(client, scripts=scripts), WorkerRegistry(client)
        completion = EndAnnouncer(client, count=metrics.jobs.count)
        timeout_seconds = settings.database_timeout_seconds
        return cls(
            settings=settings,
            database=database,
            redis_client=client,
            keys=KeyCache(database.statements),
            jobs=JobServices(
                inserts=JobInserts(database.statements, timeout_seconds=timeout_seconds),
                reads=JobReads(database.statements, timeout_seconds=timeout_seconds),
                queue=queue,
                queue_positions=QueuePositions(database.statements),
                events=JobEvents(client),
                completion=completion,
                cancellation=JobCancellation(database.sessions, client, completion),
                response_cache=ResponseCache.from_settings(settings, client),
            ),
            prompts=PromptServices(tokenizer, PromptCounter(tokenizer)),
            limits=LimitServices(
                limiter=Limiter(client, scripts=scripts),
                minute_counts=MinuteLimiter(client, scripts=scripts),
                throttle=Throttle(client),
                backlog=Backlog(
                    queue,
                    workers,
                    max_seconds=settings.max_queue_seconds,
                    max_length=settings.max_queue_length,
                ),
            ),
            slots=SlotServices(
                connections=UserSlots(settings.max_waits_per_user),
                uploads=UploadSlots(),
                large_requests=LargeRequestLock(),
            ),
            workers=workers,
            metrics=metrics,
            traces=SentTraces(Traces(settings, "api"))
            if settings.traces_endpoint
            else RequestTraces(),
        )

    def context_length(self) -> int:
        """Return the tokens that prompt and completion may have together.

        The smaller of two limits holds: that of the model, and that of the ready workers.

        Raises:
            redis.RedisError: the state of the workers cannot be read.
        """
        of_model = self.prompts.tokenizer.context_length
        return min(of_model, self.limits.backlog.context_length() or of_model)

    def recall(self, key_id: UUID) -> Recall:
        """Return a function that reads a key's use from the database, if Redis has lost it."""

        def read(month_began: datetime) -> KeyUse:
            with self.database.sessions() as session:
                return read_key_use(session, key_id, month_began)

        return read


def services() -> Services:
    """Return the services of the app that handles this request."""
    return cast(Services, current_app.extensions["bountycoder"])
