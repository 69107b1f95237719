"""What a job's end is for the caller who waits for it: an answer, or an error of the contract."""

from __future__ import annotations

from core.errors import ApiError, ContextLengthExceeded, InvalidRequest, Unavailable
from models.jobs.job import Job, JobState

_BY_CODE: dict[str, type[ApiError]] = {
    "context_length_exceeded": ContextLengthExceeded,
    "invalid_request": InvalidRequest,
    "queue_unavailable": Unavailable,
}


def interrupted() -> Unavailable:
    """Return the error for a caller who waits no longer, but not because the job has ended."""
    return Unavailable(
        "the connection was given up before the answer was complete: send the request again",
        code="interrupted",
    )


def require_completion(job: Job) -> Job:
    """Return a job that has an answer; one that was cancelled has what was made until then.

    Raises:
        ApiError: it failed, or its time was over before it began.
    """
    if job.state in {JobState.SUCCEEDED, JobState.CANCELLED}:
        return job
    if job.state == JobState.EXPIRED:
        raise Unavailable("the job had not begun within its ttlSeconds", code="job_expired")
    error = job.error or {}
    kind = _BY_CODE.get(error.get("code", ""), ApiError)
    raise kind(error.get("message", "the job failed"), code=error.get("code"))
