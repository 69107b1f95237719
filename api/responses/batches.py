"""Batches and the lines of their results."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from api.responses.jobs import Completion, JobFault, Usage
from api.responses.shown import BatchId, Count, JobId, KeyId, Page, Plain, Shown
from models.batches.batch import BatchState, OnError


class LineCounts(Plain):
    """How many lines are in each state."""

    queued: Count
    running: Count
    succeeded: Count
    failed: Count
    cancelled: Count
    expired: Count


class ShownBatch(Shown):
    """Many requests from one file.

    Attributes:
        endpoint: whose language its lines speak; null is our own.
        total: lines, those that were skipped as faulty included: they count as failed.
        usage: of the lines that ended.
        lines_per_second: that ended, since the first began.
        estimated_seconds: until all have ended, at that rate; null unless the batch runs.
        retry_of: the batch whose unsuccessful lines these are.
        started_at: when its first line began.
        expires_at: lines that have not begun by then expire.
        texts_deleted_at: when its requests and answers were deleted, as their time was over.
    """

    id: BatchId
    object: Literal["batch"]
    name: str | None
    status: BatchState
    key_id: KeyId
    model: str
    endpoint: str | None
    total: Count
    counts: LineCounts
    usage: Usage
    lines_per_second: float | None
    estimated_seconds: float | None
    on_error: OnError
    retry_of: BatchId | None
    webhook_url: str | None
    metadata: dict[str, str] | None
    created_at: datetime
    started_at: datetime | None
    cancel_requested_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime
    texts_deleted_at: datetime | None


class BatchPage(Page):
    data: list[ShownBatch]


class ResultLine(Plain):
    """What became of one line.

    Attributes:
        line: its number in the file.
        id: of its job.
        result: the answer, or what was made of it until it was cancelled.
        error: why it failed; `texts_deleted` says that the answer was deleted after its time.
    """

    line: Count
    custom_id: str | None
    id: JobId
    status: Literal["succeeded", "failed", "cancelled", "expired"]
    result: Completion | None
    error: JobFault | None
