"""The calls for batches: submit a file, poll, download results, cancel, retry."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from flask import Blueprint, Response, g, jsonify, request
from flask.typing import ResponseReturnValue
from pydantic import Field

from api.auth.auditing import audit_admin_act
from api.auth.authentication import authenticate
from api.auth.visible_batches import find_visible_batch
from api.auth.write_limits import count_bytes
from api.batches.download import stream_results
from api.batches.file_batch import create_batch_from_upload
from api.batches.generation_line import GenerationLine
from api.batches.ingest import CreatedBatch, check_open_batches, create_batch
from api.batches.new_batch import plan_retry
from api.batches.notify import cancel_batch
from api.batches.options import BatchForm, RetryOptions, WindowText
from api.batches.retry import key_of_retry, unsuccessful_lines
from api.batches.upload import JSONL_TYPES, receive_file
from api.generation.idempotency import read_idempotency_key
from api.generation.pipeline import authenticate_fresh_key
from api.generation.polling import charge_poll
from api.http.body import read_body
from api.http.disconnect import client_closed_response
from api.http.paging import read_page, serialize_page
from api.http.query import read_choice, read_number
from api.openapi.operation import CallerKind, described
from api.openapi.parameters import IDEMPOTENCY_KEY, paging, query, text_query
from api.openapi.refusals import (
    BATCH_NOT_CREATED,
    FORBIDDEN,
    NOT_RETRIED,
    TOO_MANY_POLLS,
    TOO_MANY_STREAMS,
)
from api.openapi.response import (
    BATCH_LOCATION,
    REPLAYED,
    ResponseHeader,
    json_response,
    jsonl_response,
)
from api.openapi.upload import UploadSpec
from api.responses.batches import BatchPageSchema, BatchSchema, ResultLineSchema
from api.runtime.user_slots import SlotKind
from api.services import services
from core.errors import Conflict, InvalidRequest
from core.generation import MAX_URL_LENGTH
from core.ids import Prefix
from models.batches.batch import Batch, BatchState, OnError
from models.batches.lines import read_unsuccessful
from models.batches.reads import count_running, find_batch
from models.batches.serializer import serialize_batch
from models.database.base import Session, database_now
from models.jobs.job import FINAL_STATES, JobState
from models.pages.batches import BatchFilter, list_batches

blueprint = Blueprint("batches", __name__, url_prefix="/api/llm/batches")

#: The greatest line number that the database can store.
MAX_LINE = 2**31 - 1

OPTIONS = (
    text_query("name", 200, "a name for the batch"),
    query("onError", OnError, "`skip` runs the valid lines and counts the others as failed"),
    query(
        "completionWindow",
        WindowText,
        "lines that have not started within this time expire; default `24h`",
    ),
    text_query("webhookUrl", MAX_URL_LENGTH, "the URL that gets a webhook at the end"),
    query("metadata", str, "your own labels, a JSON object"),
)
BATCH_STATUS = ResponseHeader(
    "x-batch-status", "the status of the batch when the response began", is_always=True
)


@blueprint.post("")
@described(
    CallerKind.KEY,
    {
        200: json_response(
            BatchSchema, "the batch that this request created before", BATCH_LOCATION, REPLAYED
        ),
        201: json_response(BatchSchema, "the batch", BATCH_LOCATION),
    },
    *BATCH_NOT_CREATED,
    parameters=(IDEMPOTENCY_KEY, *OPTIONS),
    upload=UploadSpec(JSONL_TYPES, GenerationLine, BatchForm),
)
def create() -> ResponseReturnValue:
    """Create a batch from a file with one request in each line.

    Options are in the query, or beside the file in a form. The service checks all lines before it
    responds. Unless `onError` is `skip`, a file with invalid lines gets a 400 whose `fields` names
    them, and no batch is created.
    """
    key = authenticate_fresh_key()
    idempotency_key = read_idempotency_key()
    with services().slots.uploads.acquire(key.user_id):
        if idempotency_key is None:
            check_open_batches(services(), key.id)
        charge = partial(count_bytes, services(), key.user_id)
        with (
            receive_file(request, services().settings, charge=charge) as upload,
            services().slots.uploads.acquire_writer(),
        ):
            made = create_batch_from_upload(services(), key, upload, idempotency_key)
    if made is None:
        return client_closed_response()
    return _created_response(made)


@blueprint.get("")
@described(
    CallerKind.KEY_OR_USER,
    {200: json_response(BatchPageSchema, "batches")},
    parameters=(
        *paging(Prefix.BATCH),
        query("status", BatchState, "only batches with this status"),
    ),
)
def index() -> ResponseReturnValue:
    """List the caller's batches, newest first; an admin gets those of all users."""
    page = read_page(Prefix.BATCH)
    state = read_choice("status", BatchState)
    with services().database.sessions() as session:
        caller = authenticate(session)
        wanted = BatchFilter(None if caller.sees_all else caller.user.id, state=state)
        batches = list_batches(session, wanted, after=page.after, limit=page.limit)
        running = count_running(session, [batch.id for batch in batches.rows if not batch.is_final])
        now = database_now(session)
    return serialize_page(
        batches,
        page,
        lambda batch: serialize_batch(batch, running=running.get(batch.id, 0), now=now),
    )


@blueprint.get("/<batch_id>")
@described(CallerKind.KEY_OR_USER, {200: json_response(BatchSchema, "the batch")}, TOO_MANY_POLLS)
def show(batch_id: str) -> ResponseReturnValue:
    """Return a batch: its progress, its usage, and the estimated time until its end."""
    with services().database.sessions() as session:
        caller = authenticate(session)
        batch = find_visible_batch(session, caller, batch_id)
        fields = _serialize(session, batch)
    charge_poll(services(), caller.poller_id)
    return fields


@blueprint.get("/<batch_id>/results")
@described(
    CallerKind.KEY_OR_USER,
    {
        200: jsonl_response(
            ResultLineSchema, "the lines that have ended, in the order of the file", BATCH_STATUS
        )
    },
    TOO_MANY_POLLS,
    TOO_MANY_STREAMS,
    parameters=(
        query("after", Annotated[int, Field(ge=0, le=MAX_LINE)], "resume after this line"),
        query(
            "status",
            str,
            "only lines with this status; separate several by commas or repeat the parameter",
        ),
    ),
)
def results(batch_id: str) -> ResponseReturnValue:
    """Return the results of the lines that have ended so far, one in each line.

    If the response is incomplete, the service breaks the connection. Resume with `after`, the
    number of the last complete line.
    """
    after = read_number("after", default=0, most=MAX_LINE)
    states = _read_final_states()
    with services().database.sessions() as session:
        caller = authenticate(session)
        batch = find_visible_batch(session, caller, batch_id)
    charge_poll(services(), caller.poller_id)
    slot = services().slots.connections.acquire(caller.user.id, SlotKind.STREAM)
    return stream_results(services().database.statements, batch, slot, after=after, states=states)


@blueprint.post("/<batch_id>/cancel")
@described(CallerKind.KEY_OR_USER, {200: json_response(BatchSchema, "the batch after the request")})
def cancel(batch_id: str) -> ResponseReturnValue:
    """Cancel a batch: waiting lines are cancelled at once, running lines end soon.

    A batch that has ended does not change.
    """
    with services().database.sessions.begin() as session:
        caller = authenticate(session)
        batch = find_visible_batch(session, caller, batch_id)
        if not batch.is_final:
            audit_admin_act(
                session, "batch.cancel", caller, owner_id=batch.user_id, target_id=batch.id
            )
    if not batch.is_final:
        cancel_batch(services(), batch.id)
    with services().database.sessions() as session:
        return _serialize(session, find_batch(session, batch.id) or batch)


@blueprint.post("/<batch_id>/retry")
@described(
    CallerKind.KEY_OR_USER,
    {
        200: json_response(
            BatchSchema, "the batch that this request created before", BATCH_LOCATION, REPLAYED
        ),
        201: json_response(BatchSchema, "the new batch", BATCH_LOCATION),
    },
    FORBIDDEN,
    NOT_RETRIED,
    *BATCH_NOT_CREATED,
    body=RetryOptions,
    is_body_optional=True,
    parameters=(IDEMPOTENCY_KEY,),
)
def retry(batch_id: str) -> ResponseReturnValue:
    """Create a new batch from the lines that did not succeed, with their numbers and ids.

    It excludes lines that were skipped as not valid: the service did not store their requests.
    """
    idempotency_key = read_idempotency_key()
    with services().database.sessions() as session:
        caller = authenticate(session)
        old = find_visible_batch(session, caller, batch_id)
        key = key_of_retry(session, caller, old)
    options = read_body(RetryOptions) if _has_body() else RetryOptions()
    if not old.is_final:
        raise Conflict("the batch has not ended", code="batch_not_finished")
    if not read_unsuccessful(services().database.statements, old.id, after=0):
        raise Conflict("the batch has no line to retry", code="nothing_to_retry")
    plan = plan_retry(
        old,
        options,
        services().settings,
        idempotency_key=idempotency_key,
        request_id=g.request_id,
    )
    with services().slots.uploads.acquire(key.user_id), services().slots.uploads.acquire_writer():
        lines = unsuccessful_lines(services().database.statements, old.id)
        return _created_response(create_batch(services(), key, lines, plan))


def _has_body() -> bool:
    return bool(request.content_length) or "Transfer-Encoding" in request.headers


def _created_response(made: CreatedBatch) -> Response:
    if made.is_new:
        fields = serialize_batch(made.batch)
    else:
        with services().database.autocommit() as session:
            fields = _serialize(session, made.batch)
    response = jsonify(fields)
    response.status_code = 201 if made.is_new else 200
    response.headers["Location"] = f"/api/llm/batches/{fields['id']}"
    if not made.is_new:
        response.headers["Idempotency-Replayed"] = "true"
    return response


def _serialize(session: Session, batch: Batch) -> dict[str, Any]:
    if batch.is_final:
        return serialize_batch(batch)
    running = count_running(session, [batch.id])
    return serialize_batch(batch, running=running.get(batch.id, 0), now=database_now(session))


def _read_final_states() -> list[JobState]:
    given = [name for text in request.args.getlist("status") for name in text.split(",")]
    known = {state.value: state for state in FINAL_STATES}
    if not set(given) <= known.keys():
        raise InvalidRequest(f"status must be one of {', '.join(known)}", param="status")
    return [known[name] for name in given] or list(FINAL_STATES)
