"""What an admin's dashboard shows."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from api.responses.shown import ActivityId, Count, Page, Share, Shown, UserId


class ShownTraffic(Shown):
    requests: Count
    succeeded: Count
    success_rate: Share | None
    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count


class ShownOverview(Shown):
    """The figures of today and of this month, UTC.

    Attributes:
        active_keys: that may be used: switched on, not expired, their owner not suspended.
        open_batches: that have not ended, and the `openLines` of them that have not.
        held_lines: open lines that wait for their release, and are in no line of `queues` yet.
        ready_workers: null while Redis is away.
        queues: jobs in each line; null while Redis is away.
    """

    users: Count
    keys: Count
    active_keys: Count
    open_batches: Count
    open_lines: Count
    held_lines: Count
    today: ShownTraffic
    month: ShownTraffic
    ready_workers: Count | None
    queues: dict[str, Count] | None


class ShownGpu(Shown):
    """What the driver says of a GPU; null and 0 are what it does not know.

    Attributes:
        use: share of the time in which it worked.
        memory_used: bytes, of `memoryTotal`.
        temperature: degrees Celsius.
    """

    name: str
    use: Share | None
    memory_used: Count
    memory_total: Count
    temperature: int | None


class ShownWorker(Shown):
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
    context_length: Count
    is_ready: bool
    running: Count
    waiting: Count
    cache_use: Share
    steps: Count
    tokens_per_second: float
    jobs_per_second: float
    restarts: Count
    bulk_places: Count
    gpus: list[ShownGpu]


class WorkerPage(Page):
    """The living workers.

    Attributes:
        queues: jobs in each line.
    """

    data: list[ShownWorker]
    queues: dict[str, Count]


class ShownActivity(Shown):
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


class ActivityPage(Page):
    data: list[ShownActivity]
