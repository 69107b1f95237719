"""A batch as OpenAI's clients see it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from api.v1.batches.output_files import ResultFileKind, result_file_id
from core.errors import FieldFault, InvalidRequest
from core.ids import Prefix, show_id
from models.batches.batch import Batch, BatchState
from models.batches.rejected import RefusedBatch

WINDOW = "24h"
#: OpenAI's words. One that expires has all its files soon.
_STATUS = {
    BatchState.RUNNING: "in_progress",
    BatchState.CANCELLING: "cancelling",
    BatchState.EXPIRING: "finalizing",
    BatchState.COMPLETED: "completed",
    BatchState.CANCELLED: "cancelled",
    BatchState.EXPIRED: "expired",
}


def serialize_batch(batch: Batch) -> dict[str, Any]:
    """Return a batch that came to be; its lines were all checked before."""
    state = BatchState(batch.state)
    ended = {state: batch.finished_at}
    return {
        **_head(batch, _STATUS[state]),
        "errors": None,
        "output_file_id": result_file_id(batch, ResultFileKind.OUTPUT),
        "error_file_id": result_file_id(batch, ResultFileKind.ERROR),
        "in_progress_at": _seconds(batch.created_at),
        "expires_at": _seconds(batch.expires_at),
        "finalizing_at": _seconds(batch.finished_at),
        "completed_at": _seconds(ended.get(BatchState.COMPLETED)),
        "failed_at": None,
        "expired_at": _seconds(ended.get(BatchState.EXPIRED)),
        "cancelling_at": _seconds(batch.cancel_requested_at),
        "cancelled_at": _seconds(ended.get(BatchState.CANCELLED)),
        "request_counts": {
            "total": batch.total,
            "completed": batch.succeeded,
            "failed": batch.ended - batch.succeeded,
        },
        "usage": {
            "input_tokens": batch.prompt_tokens,
            "input_tokens_details": {"cached_tokens": batch.cached_tokens},
            "output_tokens": batch.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": batch.prompt_tokens + batch.completion_tokens,
        },
    }


def serialize_rejected_batch(batch: RefusedBatch) -> dict[str, Any]:
    """Return a batch that never came to be, and what is wrong with its file."""
    return {
        **_head(batch, "failed"),
        "errors": {"object": "list", "data": batch.errors},
        "output_file_id": None,
        "error_file_id": None,
        "in_progress_at": None,
        "expires_at": None,
        "finalizing_at": None,
        "completed_at": None,
        "failed_at": _seconds(batch.created_at),
        "expired_at": None,
        "cancelling_at": None,
        "cancelled_at": None,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "usage": None,
    }


def serialize_errors(refusal: InvalidRequest) -> list[dict[str, Any]]:
    """Return what is wrong with a file, as a refused batch keeps it."""
    faults: Sequence[FieldFault] = refusal.fields or [
        FieldFault(refusal.param or "", refusal.message)
    ]
    return [_serialize_error(fault, refusal.code) for fault in faults]


def _serialize_error(fault: FieldFault, code: str) -> dict[str, Any]:
    where, _, param = fault.param.partition(".")
    word, _, number = where.partition(" ")
    if word != "line" or not number.isdigit():
        return {"code": code, "line": None, "message": fault.message, "param": fault.param or None}
    message = fault.message.removeprefix(f"{where}: ")
    return {"code": code, "line": int(number), "message": message, "param": param or None}


def _head(batch: Batch | RefusedBatch, status: str) -> dict[str, Any]:
    file_id = batch.input_file_id
    return {
        "id": show_id(Prefix.BATCH, batch.id),
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model,
        "input_file_id": None if file_id is None else show_id(Prefix.FILE, file_id),
        "completion_window": WINDOW,
        "status": status,
        "created_at": _seconds(batch.created_at),
        "metadata": batch.labels,
    }


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
