"""The two result files of a batch in OpenAI's API: its output and its errors.

No such file is stored. Its id names the batch, and its lines are made from the rows while it is
sent.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from api.batches.results import TEXTS_DELETED, is_deleted
from api.v1.batches.line import Endpoint
from api.v1.generation.chat_response import ChatResponse
from api.v1.generation.completion_response import CompletionResponse
from api.v1.generation.response import OpenAIResponse
from core.ids import Prefix
from models.batches.batch import Batch
from models.jobs.job import Job, JobState

_RESPONSES: dict[Endpoint, type[OpenAIResponse]] = {
    Endpoint.CHAT: ChatResponse,
    Endpoint.COMPLETIONS: CompletionResponse,
}
#: Code and message of lines that did not run to their end.
_UNFINISHED = {
    JobState.CANCELLED: ("batch_cancelled", "the batch was cancelled before this request ended"),
    JobState.EXPIRED: ("batch_expired", "this request had not begun within the completion window"),
}


class ResultFileKind(StrEnum):
    """The kinds of result files of a batch."""

    OUTPUT = "output"
    ERROR = "error"

    @property
    def states(self) -> Collection[JobState]:
        """The states of the lines in the file."""
        if self is ResultFileKind.OUTPUT:
            return (JobState.SUCCEEDED,)
        return (JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED)

    def count_lines(self, batch: Batch) -> int:
        """Return the number of lines that the file of a final batch has."""
        return batch.succeeded if self is ResultFileKind.OUTPUT else batch.ended - batch.succeeded


@dataclass(frozen=True, slots=True)
class ResultFileId:
    """The id of a result file: its kind and its batch."""

    kind: ResultFileKind
    batch_id: UUID

    def __str__(self) -> str:
        return f"{Prefix.FILE}_{self.kind}_{self.batch_id.hex}"

    @classmethod
    def read(cls, text: str) -> ResultFileId | None:
        """Parse the id of a result file; return `None` if `text` is not one."""
        try:
            prefix, kind, digits = text.split("_")
            found = cls(ResultFileKind(kind), UUID(hex=digits))
        except ValueError:
            return None
        return found if prefix == Prefix.FILE and str(found) == text else None


def result_file_id(batch: Batch, kind: ResultFileKind) -> str | None:
    """Return the id of a result file; `None` before the batch has ended, or without lines."""
    if not batch.is_final or not kind.count_lines(batch):
        return None
    return str(ResultFileId(kind, batch.id))


def serialize_line(batch: Batch, job: Job) -> dict[str, Any]:
    """Return one line of a result file."""
    content: dict[str, Any] = {
        "id": f"batch_req_{job.id.hex}",
        "custom_id": job.custom_id,
        "response": None,
        "error": None,
    }
    if is_deleted(job):
        content["error"] = TEXTS_DELETED
    elif job.state == JobState.SUCCEEDED:
        has_logprobs = any(choice.get("logprobs") for choice in job.choices or ())
        kind = _RESPONSES[Endpoint(batch.endpoint or "")]
        response = kind(job, has_logprobs=has_logprobs, has_usage_chunk=False)
        content["response"] = {
            "status_code": 200,
            "request_id": batch.request_id,
            "body": response.to_object(job),
        }
    else:
        content["error"] = _serialize_error(job)
    return content


def _serialize_error(job: Job) -> dict[str, str]:
    if job.error is not None:
        return {"code": job.error["code"], "message": job.error["message"]}
    code, message = _UNFINISHED.get(JobState(job.state), ("server_error", "this request failed"))
    return {"code": code, "message": message}
