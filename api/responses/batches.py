"""Batches and the lines of their results."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import NonNegativeInt

from api.responses.base import BatchId, CamelCaseSchema, JobId, KeyId, PageSchema, SnakeCaseSchema
from api.responses.jobs import CompletionSchema, JobFaultSchema, UsageSchema
from models.batches.batch import BatchState, OnError


class LineCountsSchema(SnakeCaseSchema):
    """How many lines are in each state."""

    queued: NonNegativeInt
    running: NonNegativeInt
    succeeded: NonNegativeInt
    failed: NonNegativeInt
    cancelled: NonNegativeInt
    expired: NonNegativeInt


class BatchSchema(CamelCaseSchema):
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
    total: NonNegativeInt
    counts: LineCountsSchema
    usage: UsageSchema
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


class BatchPageSchema(PageSchema):
    data: list[BatchSchema]


class ResultLineSchema(SnakeCaseSchema):
    """What became of one line.

    Attributes:
        line: its number in the file.
        id: of its job.
        result: the answer, or what was made of it until it was cancelled.
        error: why it failed; `texts_deleted` says that the answer was deleted after its time.
    """

    line: NonNegativeInt
    custom_id: str | None
    id: JobId
    status: Literal["succeeded", "failed", "cancelled", "expired"]
    result: CompletionSchema | None
    error: JobFaultSchema | None
