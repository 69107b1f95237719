"""The calls for jobs: poll, list, stream and cancel."""

from __future__ import annotations

import time
from typing import Annotated

import redis
from flask import Blueprint, request
from flask.typing import ResponseReturnValue
from pydantic import Field

from api.auth.auditing import audit_admin_act
from api.auth.authentication import authenticate
from api.auth.visible_jobs import find_visible_job
from api.generation.event_stream import stream_job
from api.generation.outcomes import require_completion
from api.generation.polling import charge_poll
from api.generation.waiting import read_job
from api.http.disconnect import present_connection
from api.http.paging import read_page, serialize_page
from api.http.query import read_choice
from api.openapi.operation import CallerKind, described
from api.openapi.parameters import LAST_EVENT_ID, paging, query
from api.openapi.refusals import TOO_MANY_POLLS, TOO_MANY_STREAMS, TOO_MANY_WAITS
from api.openapi.response import event_stream_response, json_response
from api.responses.jobs import CompletionEventSchema, JobPageSchema, JobSchema
from api.runtime.user_slots import SlotKind
from api.services import services
from api.views.generate import serialize_delta, serialize_end
from core.errors import InvalidRequest, NotFound
from core.ids import Prefix
from core.text.integers import bounded_integer
from models.jobs.job import Job, JobState
from models.jobs.serializer import serialize_completion_head, serialize_job, serialize_listed_job
from models.jobs.transitions import request_text
from models.pages.jobs import JobFilter, JobSource, list_jobs

blueprint = Blueprint("jobs", __name__, url_prefix="/api/llm/jobs")

#: How often a waiting request reads the row, beside events.
POLL_SECONDS = 1.0

WaitSeconds = Annotated[int, Field(ge=0, lt=10**9)]


@blueprint.get("")
@described(
    CallerKind.KEY_OR_USER,
    {200: json_response(JobPageSchema, "jobs")},
    parameters=(*paging(Prefix.JOB), query("status", JobState, "only jobs with this status")),
)
def index() -> ResponseReturnValue:
    """List the caller's jobs, newest first, without their completions.

    An admin gets those of all users. Lines of batches are excluded: see the results of a batch.
    """
    page = read_page(Prefix.JOB)
    state = read_choice("status", JobState)
    with services().database.sessions() as session:
        caller = authenticate(session)
        wanted = JobFilter(
            user_id=None if caller.sees_all else caller.user.id,
            state=state,
            source=JobSource.API,
        )
        jobs = list_jobs(session, wanted, after=page.after, limit=page.limit, has_metadata=True)
    return serialize_page(jobs, page, serialize_listed_job)


@blueprint.get("/<job_id>")
@described(
    CallerKind.KEY_OR_USER,
    {200: json_response(JobSchema, "the job")},
    TOO_MANY_POLLS,
    TOO_MANY_WAITS,
    parameters=(query("wait", WaitSeconds, "the seconds to wait for a change of the status"),),
)
def show(job_id: str) -> ResponseReturnValue:
    """Return a job, with its result if it has ended; `?wait=N` waits for a new status."""
    seconds = _read_wait()
    with services().database.sessions() as session:
        caller = authenticate(session)
        job = find_visible_job(session, caller, job_id)
    charge_poll(services(), caller.poller_id)
    if seconds and not job.is_final:
        with services().slots.connections.acquire(caller.user.id, SlotKind.WAIT):
            job = _wait_for_change(job, seconds)
    return _serialize(job)


@blueprint.get("/<job_id>/stream")
@described(
    CallerKind.KEY_OR_USER,
    {200: event_stream_response(CompletionEventSchema, "the text; `[DONE]` is the last event")},
    TOO_MANY_POLLS,
    TOO_MANY_STREAMS,
    parameters=(LAST_EVENT_ID,),
)
def stream(job_id: str) -> ResponseReturnValue:
    """Stream the text of a job, from its beginning or after the event `Last-Event-ID`."""
    with services().database.sessions.begin() as session:
        caller = authenticate(session)
        job = find_visible_job(session, caller, job_id)
        if job.texts_deleted_at is not None:
            raise NotFound("the text of this job was deleted after its retention period")
        if not job.is_final and not job.is_streamed:
            request_text(session, job.id)
    charge_poll(services(), caller.poller_id)
    head = serialize_completion_head(job)
    return stream_job(
        services(),
        job,
        request.headers.get("Last-Event-ID"),
        lambda delta: [serialize_delta(head, delta)],
        lambda ended: [serialize_end(head, require_completion(ended))],
    )


@blueprint.delete("/<job_id>")
@described(CallerKind.KEY_OR_USER, {200: json_response(JobSchema, "the job after the request")})
def delete(job_id: str) -> ResponseReturnValue:
    """Cancel a job; one that has ended does not change."""
    with services().database.sessions.begin() as session:
        caller = authenticate(session)
        job = find_visible_job(session, caller, job_id)
        if not job.is_final:
            audit_admin_act(session, "job.cancel", caller, owner_id=job.user_id, target_id=job.id)
    return _serialize(services().jobs.cancellation.cancel(job.id) or read_job(services(), job))


def _serialize(job: Job) -> ResponseReturnValue:
    fields = serialize_job(job)
    if job.state == JobState.QUEUED and job.batch_id is None:
        before = services().jobs.queue_positions.jobs_before(job)
        fields["position"] = before + 1
        fields["estimatedSeconds"] = _estimate(before)
    return fields


def _estimate(before: int) -> float | None:
    """Return the seconds until a job with this many others before it starts, if known."""
    try:
        seconds = services().limits.backlog.seconds_for(before)
    except redis.RedisError:
        return None
    return None if seconds is None else round(seconds, 1)


def _wait_for_change(job: Job, seconds: float) -> Job:
    """Return the job when its state has changed, or after the time."""
    connection = present_connection()
    deadline = time.monotonic() + seconds
    with (
        services().jobs.events.watch(job.id) as watch,
        connection.watched(watch.changed.set),
    ):
        now = job
        while now.state == job.state and not connection.is_gone and not watch.must_end:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                break
            watch.changed.wait(min(remaining, POLL_SECONDS))
            watch.changed.clear()
            now = read_job(services(), job)
    return now


def _read_wait() -> float:
    longest = services().settings.sync_wait_seconds
    seconds = bounded_integer(request.args.get("wait", "0"))
    if seconds is None:
        raise InvalidRequest("wait must be a number of seconds", param="wait")
    return min(float(seconds), longest)
