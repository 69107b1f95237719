"""The calls that generate: wait for the completion, stream it, or create a job."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from flask import Blueprint, Response, jsonify
from flask.typing import ResponseReturnValue

from api.generation.admission import AdmittedJob
from api.generation.event_stream import stream_admitted
from api.generation.outcomes import require_completion
from api.generation.pipeline import (
    admit_request,
    authenticate_and_parse,
    hold_connection_slot,
    wait_for_completion,
)
from api.generation.text_follower import Delta
from api.http.disconnect import client_closed_response
from api.http.preferences import read_preferences
from api.openapi.operation import CallerKind, described
from api.openapi.parameters import IDEMPOTENCY_KEY, PREFER
from api.openapi.refusals import NOT_ADMITTED, NOT_COMPLETED
from api.openapi.response import (
    FROM_CACHE,
    LOCATION,
    PREFERENCE_APPLIED,
    RATE_LIMITS,
    REPLAYED,
    json_or_stream_response,
    json_response,
)
from api.responses.jobs import CompletionEventSchema, CompletionSchema, JobSchema
from api.runtime.user_slots import SlotKind
from api.services import services
from core.generation import Generation
from models.accounts.key_cache import RequestKey
from models.jobs.job import Job
from models.jobs.serializer import (
    choices_of,
    serialize_completion,
    serialize_completion_head,
    serialize_job,
    serialize_usage,
)

blueprint = Blueprint("generate", __name__, url_prefix="/api/llm")


@blueprint.post("/generate")
@described(
    CallerKind.KEY,
    {
        200: json_or_stream_response(
            CompletionSchema, CompletionEventSchema, *RATE_LIMITS, REPLAYED, FROM_CACHE
        ),
        202: json_response(
            JobSchema,
            "the job, which continues; poll it at its URL",
            LOCATION,
            *RATE_LIMITS,
            REPLAYED,
            FROM_CACHE,
            PREFERENCE_APPLIED,
        ),
    },
    *NOT_ADMITTED,
    *NOT_COMPLETED,
    body=Generation,
    parameters=(PREFER, IDEMPOTENCY_KEY),
)
def generate() -> ResponseReturnValue:
    """Generate a completion: wait for it up to `SYNC_WAIT_SECONDS`, or stream it."""
    key, generation = authenticate_and_parse(Generation)
    if generation.stream:
        return _stream(key, generation)
    preferences = read_preferences(services().settings.sync_wait_seconds)
    if preferences.is_async:
        admitted = admit_request(key, generation)
        admitted.enqueue()
        return accepted(admitted, preferences.applied)
    with hold_connection_slot(key, SlotKind.WAIT):
        admitted = admit_request(key, generation)
        job = wait_for_completion(admitted, preferences.wait_seconds)
    if job is None:
        return client_closed_response()
    if not job.is_final:
        return accepted(admitted, job=job)
    response = jsonify(serialize_completion(require_completion(job)))
    response.headers.update(admitted.headers)
    return response


def _stream(key: RequestKey, generation: Generation) -> Response:
    with ExitStack() as held:
        held.enter_context(hold_connection_slot(key, SlotKind.STREAM))
        admitted = admit_request(key, generation)
        head = serialize_completion_head(admitted.job)
        return stream_admitted(
            admitted,
            lambda delta: [serialize_delta(head, delta)],
            lambda job: [serialize_end(head, require_completion(job))],
            slot=held.pop_all(),
        )


@blueprint.post("/jobs")
@described(
    CallerKind.KEY,
    {202: json_response(JobSchema, "the job", LOCATION, *RATE_LIMITS, REPLAYED, FROM_CACHE)},
    *NOT_ADMITTED,
    body=Generation,
    parameters=(IDEMPOTENCY_KEY,),
)
def submit() -> ResponseReturnValue:
    """Create a job and return 202 with its URL at once."""
    admitted = admit_request(*authenticate_and_parse(Generation))
    admitted.enqueue()
    return accepted(admitted)


def accepted(
    admitted: AdmittedJob, headers: dict[str, str] | None = None, *, job: Job | None = None
) -> Response:
    """Return 202 with the job and its URL."""
    job = job or admitted.job
    fields = serialize_job(job)
    response = jsonify(fields)
    response.status_code = 202
    location = {"Location": f"/api/llm/jobs/{fields['id']}"}
    response.headers.extend({**admitted.headers, **(headers or {}), **location})
    return response


def serialize_delta(head: dict[str, Any], delta: Delta) -> dict[str, Any]:
    """Return one event of a stream: the text that a choice gained."""
    choice: dict[str, Any] = {"text": delta.text, "index": delta.index, "finish_reason": None}
    if delta.logprobs is not None:
        choice["logprobs"] = delta.logprobs
    return {**head, "choices": [choice]}


def serialize_end(head: dict[str, Any], job: Job) -> dict[str, Any]:
    """Return the last event of a stream: the finish reason of each choice, and the usage."""
    choices = [
        {"text": "", "index": choice["index"], "finish_reason": choice["finish_reason"]}
        for choice in choices_of(job)
    ]
    return {**head, "choices": choices, "usage": serialize_usage(job)}
