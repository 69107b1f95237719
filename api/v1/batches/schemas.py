"""The schemas of responses of `/v1/files` and `/v1/batches` for the published document."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeInt

from api.responses.base import BatchId, FileId, SnakeCaseSchema
from api.v1.batches.line import Endpoint
from api.v1.generation.schemas import ChatCompletion, OpenAICompletion


class OpenAIFile(SnakeCaseSchema):
    """A file.

    Attributes:
        expires_at: null for a result file, which exists as long as its batch.
    """

    id: FileId
    object: Literal["file"]
    bytes: NonNegativeInt
    created_at: NonNegativeInt
    expires_at: NonNegativeInt | None
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"]
    status_details: None


class OpenAIFileList(SnakeCaseSchema):
    object: Literal["list"]
    data: list[OpenAIFile]
    first_id: FileId | None
    last_id: FileId | None
    has_more: bool


class DeletedFile(SnakeCaseSchema):
    id: FileId
    object: Literal["file"]
    deleted: Literal[True]


class BatchFault(SnakeCaseSchema):
    code: str
    line: NonNegativeInt | None
    message: str
    param: str | None


class BatchFaults(SnakeCaseSchema):
    object: Literal["list"]
    data: list[BatchFault]


class RequestCounts(SnakeCaseSchema):
    """Numbers of lines; `failed` includes those that expired or were cancelled."""

    total: NonNegativeInt
    completed: NonNegativeInt
    failed: NonNegativeInt


class CachedTokens(SnakeCaseSchema):
    cached_tokens: NonNegativeInt


class ReasoningTokens(SnakeCaseSchema):
    reasoning_tokens: Literal[0]


class BatchUsage(SnakeCaseSchema):
    input_tokens: NonNegativeInt
    input_tokens_details: CachedTokens
    output_tokens: NonNegativeInt
    output_tokens_details: ReasoningTokens
    total_tokens: NonNegativeInt


class OpenAIBatch(SnakeCaseSchema):
    """A batch.

    Attributes:
        errors: faults of the first 100 invalid lines, for a batch that is `failed`.
        input_file_id: null for a retry by `/api` of a batch from before files had ids.
        output_file_id: file of the lines that succeeded, once the batch has ended.
        error_file_id: file of the other lines, once the batch has ended.
        usage: of the lines that have ended; null for a batch that is `failed`.
    """

    id: BatchId
    object: Literal["batch"]
    endpoint: Endpoint
    model: str
    errors: BatchFaults | None
    input_file_id: FileId | None
    completion_window: Literal["24h"]
    status: Literal[
        "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
    ]
    output_file_id: FileId | None
    error_file_id: FileId | None
    created_at: NonNegativeInt
    in_progress_at: NonNegativeInt | None
    expires_at: NonNegativeInt | None
    finalizing_at: NonNegativeInt | None
    completed_at: NonNegativeInt | None
    failed_at: NonNegativeInt | None
    expired_at: NonNegativeInt | None
    cancelling_at: NonNegativeInt | None
    cancelled_at: NonNegativeInt | None
    request_counts: RequestCounts
    metadata: dict[str, str] | None
    usage: BatchUsage | None


class OpenAIBatchList(SnakeCaseSchema):
    object: Literal["list"]
    data: list[OpenAIBatch]
    first_id: BatchId | None
    last_id: BatchId | None
    has_more: bool


class LineResponse(SnakeCaseSchema):
    status_code: Literal[200]
    request_id: str
    body: ChatCompletion | OpenAICompletion


class LineError(SnakeCaseSchema):
    code: str
    message: str


class BatchFileLine(SnakeCaseSchema):
    """A line of a batch's output file or error file.

    Attributes:
        error: `batch_expired`, `batch_cancelled`, or the error of the line.
    """

    id: str
    custom_id: str | None
    response: LineResponse | None
    error: LineError | None
