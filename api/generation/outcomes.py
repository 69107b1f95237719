"""Maps the end of a job to a completion or an API error."""

from __future__ import annotations

from core.errors import ApiError, ContextLengthExceeded, InvalidRequest, Unavailable
from models.jobs.job import Job, JobState

_BY_CODE: dict[str, type[ApiError]] = {
    "context_length_exceeded": ContextLengthExceeded,
    "invalid_request": InvalidRequest,
    "queue_unavailable": Unavailable,
}


def interrupted() -> Unavailable:
    """Return the error for a connection that ends before its job."""
    return Unavailable(
        "the connection ended before the completion was finished: send the request again",
        code="interrupted",
    )


def require_completion(job: Job) -> Job:
    """Return the job if it has a completion; that of a cancelled job may be partial.

    Raises:
        ApiError: the job failed, or expired before it began.
    """
    if job.state in {JobState.SUCCEEDED, JobState.CANCELLED}:
        return job
    if job.state == JobState.EXPIRED:
        raise Unavailable("the job had not begun within its ttlSeconds", code="job_expired")
    error = job.error or {}
    kind = _BY_CODE.get(error.get("code", ""), ApiError)
    raise kind(error.get("message", "the job failed"), code=error.get("code"))
