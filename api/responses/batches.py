"""Schemas of batches and of the lines of their results."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import NonNegativeInt

from api.responses.base import BatchId, CamelCaseSchema, JobId, KeyId, PageSchema, SnakeCaseSchema
from api.responses.jobs import CompletionSchema, JobFaultSchema, UsageSchema
from models.batches.batch import BatchState, OnError


class LineCountsSchema(SnakeCaseSchema):
    """The number of lines in each state."""

    queued: NonNegativeInt
    running: NonNegativeInt
    succeeded: NonNegativeInt
    failed: NonNegativeInt
    cancelled: NonNegativeInt
    expired: NonNegativeInt


class BatchSchema(CamelCaseSchema):
    """Many requests from one file.

    Attributes:
        endpoint: the OpenAI endpoint of its lines; null means our own format.
        total: the number of lines. Skipped lines are included and count as failed.
        usage: the usage of the lines that have ended.
        lines_per_second: the rate of ended lines since the first line started.
        estimated_seconds: the time until all lines have ended, at that rate; null unless the batch
            runs.
        retry_of: the batch whose unsuccessful lines this batch retries.
        started_at: when the first line started.
        expires_at: when lines that have not started expire.
        texts_deleted_at: when retention deleted its requests and completions.
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
    """The result of one line.

    Attributes:
        line: the number of the line in the file.
        id: the id of its job.
        result: the completion, or the part that was generated before the cancellation.
        error: why the line failed; `texts_deleted` means that retention deleted the completion.
    """

    line: NonNegativeInt
    custom_id: str | None
    id: JobId
    status: Literal["succeeded", "failed", "cancelled", "expired"]
    result: CompletionSchema | None
    error: JobFaultSchema | None
