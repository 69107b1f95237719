"""`POST /api/llm/generate`: from a prompt to an answer, or after the wait to the job's address."""

from __future__ import annotations

import time
from threading import Event

from flask import Blueprint, g, jsonify, url_for
from flask.typing import ResponseReturnValue

from api.admission import admit
from api.authentication import authenticate_key
from api.body import read_body
from api.representations import show_completion, show_job
from api.services import services
from core.errors import ApiError, ContextLengthExceeded, InvalidRequest
from core.generation import Generation
from core.ids import Prefix, show_id
from models.api_key import mark_used
from models.base import DATABASE_AWAY, utc_now
from models.job import Job, JobState, find_job

blueprint = Blueprint("generate", __name__, url_prefix="/api/llm")

#: News of an end can be lost: a waiter looks at the row itself this often.
RECHECK_SECONDS = 15.0
#: Between two looks at a database that is away.
AWAY_SECONDS = 0.5

_BY_CODE: dict[str, type[ApiError]] = {
    "context_length_exceeded": ContextLengthExceeded,
    "invalid_request": InvalidRequest,
}


@blueprint.post("/generate")
def generate() -> ResponseReturnValue:
    """Generate, waiting for the answer up to `SYNC_WAIT_SECONDS`."""
    with services().sessions.begin() as session:
        key, _ = authenticate_key(session)
        mark_used(session, key, utc_now())
    generation = read_body(Generation)
    admitted = admit(services(), key, generation, request_id=g.request_id)
    with services().ends.watch(admitted.job.id) as ended:
        admitted.send()
        job = _wait(admitted.job, ended, services().settings.sync_wait_seconds)
    response = jsonify(show_completion(job) if job.is_final else show_job(job))
    response.status_code = 200 if job.is_final else 202
    response.headers.update(admitted.limit.headers)
    if not job.is_final:
        response.headers["Location"] = url_for(
            "jobs.show", job_id=show_id(Prefix.JOB, job.id), _external=False
        )
    return response


def _wait(job: Job, ended: Event, seconds: float) -> Job:
    """Return the job when it has ended, or as it is when the time is over.

    A database that is away for a moment is waited for: the job goes on, and is paid for.

    Raises:
        ApiError: the job failed.
    """
    deadline = time.monotonic() + seconds
    while True:
        remaining = deadline - time.monotonic()
        if remaining > 0:
            ended.wait(min(remaining, RECHECK_SECONDS))
            ended.clear()
        job = _read(job)
        if job.is_final:
            return _succeeded(job)
        if remaining <= 0:
            return job


def _read(job: Job) -> Job:
    """Return the job as its row is now, or as it was known while the database is away."""
    try:
        with services().sessions() as session:
            return find_job(session, job.id) or job
    except DATABASE_AWAY:
        time.sleep(AWAY_SECONDS)
        return job


def _succeeded(job: Job) -> Job:
    if job.state == JobState.SUCCEEDED:
        return job
    error = job.error or {}
    kind = _BY_CODE.get(error.get("code", ""), ApiError)
    raise kind(error.get("message", f"the job was {job.state}"), code=error.get("code"))
