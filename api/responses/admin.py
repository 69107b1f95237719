"""Schemas of the calls for an admin's dashboard."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import NonNegativeInt

from api.responses.base import ActivityId, CamelCaseSchema, PageSchema, Share, UserId


class TrafficSchema(CamelCaseSchema):
    requests: NonNegativeInt
    succeeded: NonNegativeInt
    success_rate: Share | None
    prompt_tokens: NonNegativeInt
    completion_tokens: NonNegativeInt
    total_tokens: NonNegativeInt


class OverviewSchema(CamelCaseSchema):
    """The figures of today and of this month, UTC.

    Attributes:
        active_keys: keys that are active and not expired, and whose owner is not suspended.
        open_batches: batches that have not ended; `openLines` counts their lines that have not
            ended.
        held_lines: open lines that are not on a queue yet; `queues` excludes them.
        ready_workers: null while Redis is away.
        queues: the number of jobs in each queue; null while Redis is away.
    """

    users: NonNegativeInt
    keys: NonNegativeInt
    active_keys: NonNegativeInt
    open_batches: NonNegativeInt
    open_lines: NonNegativeInt
    held_lines: NonNegativeInt
    today: TrafficSchema
    month: TrafficSchema
    ready_workers: NonNegativeInt | None
    queues: dict[str, NonNegativeInt] | None


class GpuSchema(CamelCaseSchema):
    """The state of a GPU as its driver reports it; unknown values are null or 0.

    Attributes:
        use: the share of time in which the GPU was busy.
        memory_used: bytes used of `memoryTotal`.
        temperature: degrees Celsius.
    """

    name: str
    use: Share | None
    memory_used: NonNegativeInt
    memory_total: NonNegativeInt
    temperature: int | None


class WorkerSchema(CamelCaseSchema):
    """The status of a worker.

    Attributes:
        is_ready: the worker accepts jobs.
        jobs_per_second: the rate at full load; 0 means unknown.
        restarts: the number of restarts of its engine.
        bulk_places: the number of bulk jobs that it runs at the same time.
        gpus: the GPUs of its machine.
    """

    worker_id: str
    model: str
    context_length: NonNegativeInt
    is_ready: bool
    running: NonNegativeInt
    waiting: NonNegativeInt
    cache_use: Share
    steps: NonNegativeInt
    tokens_per_second: float
    jobs_per_second: float
    restarts: NonNegativeInt
    bulk_places: NonNegativeInt
    gpus: list[GpuSchema]


class WorkerPageSchema(PageSchema):
    """The workers with a recent heartbeat.

    Attributes:
        queues: the number of jobs in each queue.
    """

    data: list[WorkerSchema]
    queues: dict[str, NonNegativeInt]


class ActivitySchema(CamelCaseSchema):
    """An entry of the audit trail.

    Attributes:
        action: the kind of change, such as `key.create`.
        actor_id: the user who made the change; null if the caller was not signed in.
        target_id: the id of the changed user, key, webhook, job, batch or file.
        details: the changed values.
    """

    id: ActivityId
    at: datetime
    action: str
    actor_id: UserId | None
    actor_email: str | None
    target_id: str | None
    address: str
    details: dict[str, Any]


class ActivityPageSchema(PageSchema):
    data: list[ActivitySchema]
