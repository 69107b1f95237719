"""What an admin's dashboard shows."""

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
        active_keys: that may be used: switched on, not expired, their owner not suspended.
        open_batches: that have not ended, and the `openLines` of them that have not.
        held_lines: open lines that wait for their release, and are in no line of `queues` yet.
        ready_workers: null while Redis is away.
        queues: jobs in each line; null while Redis is away.
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
    """What the driver says of a GPU; null and 0 are what it does not know.

    Attributes:
        use: share of the time in which it worked.
        memory_used: bytes, of `memoryTotal`.
        temperature: degrees Celsius.
    """

    name: str
    use: Share | None
    memory_used: NonNegativeInt
    memory_total: NonNegativeInt
    temperature: int | None


class WorkerSchema(CamelCaseSchema):
    """What a worker says of itself.

    Attributes:
        is_ready: it takes jobs.
        jobs_per_second: at its fullest; 0 is unknown.
        restarts: of its engine.
        bulk_places: bulk jobs that it runs at once.
        gpus: of its machine.
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
    """The living workers.

    Attributes:
        queues: jobs in each line.
    """

    data: list[WorkerSchema]
    queues: dict[str, NonNegativeInt]


class ActivitySchema(CamelCaseSchema):
    """Who changed what.

    Attributes:
        action: such as `key.create`.
        actor_id: null where nobody was signed in.
        target_id: of the user, key, webhook, job, batch or file.
        details: what changed.
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
