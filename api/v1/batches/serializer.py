"""Serializes batches as objects of OpenAI's API."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from api.v1.batches.output_files import ResultFileKind, result_file_id
from core.errors import FieldFault, InvalidRequest
from core.ids import Prefix, format_id
from core.text.integers import bounded_integer
from models.batches.batch import Batch, BatchState
from models.batches.rejected import RejectedBatch

WINDOW = "24h"
#: OpenAI's status of each state; a batch that is expiring has its files soon.
_STATUS = {
    BatchState.RUNNING: "in_progress",
    BatchState.CANCELLING: "cancelling",
    BatchState.EXPIRING: "finalizing",
    BatchState.COMPLETED: "completed",
    BatchState.CANCELLED: "cancelled",
    BatchState.EXPIRED: "expired",
}
#: Fields that are null where they do not apply.
_NULLABLE = (
    "errors",
    "output_file_id",
    "error_file_id",
    "in_progress_at",
    "expires_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
    "usage",
)


def serialize_batch(batch: Batch) -> dict[str, Any]:
    """Return the object of a batch that was created."""
    state = BatchState(batch.state)
    ended = {state: batch.finished_at}
    return _serialize(
        batch,
        status=_STATUS[state],
        output_file_id=result_file_id(batch, ResultFileKind.OUTPUT),
        error_file_id=result_file_id(batch, ResultFileKind.ERROR),
        in_progress_at=_seconds(batch.created_at),
        expires_at=_seconds(batch.expires_at),
        finalizing_at=_seconds(batch.finished_at),
        completed_at=_seconds(ended.get(BatchState.COMPLETED)),
        expired_at=_seconds(ended.get(BatchState.EXPIRED)),
        cancelling_at=_seconds(batch.cancel_requested_at),
        cancelled_at=_seconds(ended.get(BatchState.CANCELLED)),
        request_counts={
            "total": batch.total,
            "completed": batch.succeeded,
            "failed": batch.ended - batch.succeeded,
        },
        usage={
            "input_tokens": batch.prompt_tokens,
            "input_tokens_details": {"cached_tokens": batch.cached_tokens},
            "output_tokens": batch.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": batch.prompt_tokens + batch.completion_tokens,
        },
    )


def serialize_rejected_batch(batch: RejectedBatch) -> dict[str, Any]:
    """Return the object of a batch that was not created, with the faults of its file."""
    return _serialize(
        batch,
        status="failed",
        errors={"object": "list", "data": batch.errors},
        failed_at=_seconds(batch.created_at),
    )


def serialize_errors(error: InvalidRequest) -> list[dict[str, Any]]:
    """Return the faults of a file as a rejected batch stores them."""
    faults: Sequence[FieldFault] = error.fields or [FieldFault(error.param or "", error.message)]
    return [_serialize_error(fault, error.code) for fault in faults]


def _serialize_error(fault: FieldFault, code: str) -> dict[str, Any]:
    where, _, param = fault.param.partition(".")
    word, _, digits = where.partition(" ")
    number = bounded_integer(digits)
    if word != "line" or number is None:
        return {"code": code, "line": None, "message": fault.message, "param": fault.param or None}
    message = fault.message.removeprefix(f"{where}: ")
    return {"code": code, "line": number, "message": message, "param": param or None}


def _serialize(batch: Batch | RejectedBatch, *, status: str, **fields: Any) -> dict[str, Any]:
    """Return the object of a batch; omitted `fields` are null, and its counts are 0."""
    file_id = batch.input_file_id
    return {
        "id": format_id(Prefix.BATCH, batch.id),
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model,
        "input_file_id": None if file_id is None else format_id(Prefix.FILE, file_id),
        "completion_window": WINDOW,
        "status": status,
        "created_at": _seconds(batch.created_at),
        "metadata": batch.labels,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        **dict.fromkeys(_NULLABLE),
        **fields,
    }


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
