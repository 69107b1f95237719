"""`/v1/batches`: creates, reads and cancels batches as OpenAI's API does."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from flask import Blueprint, g
from flask.typing import ResponseReturnValue
from pydantic import BeforeValidator, Field

from api.auth.auditing import audit_admin_act
from api.auth.authentication import Caller, authenticate
from api.batches.file_batch import create_batch_from_file
from api.batches.ingest import check_open_batches, find_earlier_batch
from api.batches.new_batch import BatchPlan
from api.batches.notify import cancel_batch
from api.generation.idempotency import read_idempotency_key
from api.generation.pipeline import authenticate_fresh_key
from api.generation.polling import charge_poll
from api.http.body import read_body
from api.http.disconnect import client_closed_response
from api.openapi.operation import CallerKind, described
from api.openapi.parameters import IDEMPOTENCY_KEY, id_query, limit
from api.openapi.refusals import BATCH_NOT_CREATED, NOT_FOUND, TOO_MANY_POLLS
from api.openapi.response import json_response
from api.services import services
from api.v1.batches.file_storage import find_own_file, open_stored_file
from api.v1.batches.line import Endpoint, line_parser
from api.v1.batches.schemas import OpenAIBatch, OpenAIBatchList
from api.v1.batches.serializer import serialize_batch, serialize_errors, serialize_rejected_batch
from api.v1.generation.ignored_fields import OpenAIBody, reject_unless
from api.v1.listing import read_after, read_limit, serialize_list
from core.errors import InvalidRequest, NotFound
from core.generation import Metadata
from core.ids import Prefix, parse_id
from models.accounts.key_cache import RequestKey
from models.batches.batch import Batch
from models.batches.reads import find_batch
from models.batches.rejected import (
    RejectedBatch,
    add_rejected_batch,
    find_rejected_batch,
    list_rejected_batches,
)
from models.database.base import Session
from models.database.pagination import Keyset, merge_keysets
from models.files.file import File
from models.pages.batches import BatchFilter, list_batches

blueprint = Blueprint("v1_batches", __name__, url_prefix="/v1/batches")

WINDOW = timedelta(hours=24)
#: OpenAI's default and maximum.
DEFAULT_LISTED, MOST_LISTED = 20, 100


def _known_endpoint(value: Any) -> Any:
    if value not in list(Endpoint):
        raise ValueError(f"endpoint must be {' or '.join(Endpoint)}")
    return value


def _day_window(value: Any) -> Any:
    if value != "24h":
        raise ValueError("completion_window must be 24h; POST /api/llm/batches takes others")
    return value


class BatchBody(OpenAIBody):
    """A batch of the lines of a file.

    Attributes:
        metadata: your own labels; the batch repeats them.
    """

    input_file_id: Annotated[str, Field(max_length=64)]
    endpoint: Annotated[Endpoint, BeforeValidator(_known_endpoint, json_schema_input_type=Endpoint)]
    completion_window: Annotated[
        Literal["24h"], BeforeValidator(_day_window, json_schema_input_type=Literal["24h"])
    ]
    metadata: Metadata | None = None
    output_expires_after: Annotated[Any, reject_unless()] = None


@blueprint.post("")
@described(
    CallerKind.KEY,
    {200: json_response(OpenAIBatch, "the batch; `failed` if lines of its file are not valid")},
    NOT_FOUND,
    *BATCH_NOT_CREATED,
    body=BatchBody,
    parameters=(IDEMPOTENCY_KEY,),
)
def create() -> ResponseReturnValue:
    """Create a batch from an uploaded file.

    All lines are validated before the response. If some are not valid, none runs: the batch is
    `failed`, and its `errors` name them.
    """
    key = authenticate_fresh_key()
    body = read_body(BatchBody)
    file_id = parse_id(Prefix.FILE, body.input_file_id)
    plan = _plan(body, file_id, read_idempotency_key())
    created = find_earlier_batch(services(), key.id, plan)
    if created is not None:  # even if its file was deleted since
        return serialize_batch(created.batch)
    with services().database.sessions() as session:
        file = find_own_file(session, key.user_id, file_id)
    check_open_batches(services(), key.id)
    uploads = services().slots.uploads
    with (
        uploads.acquire(key.user_id),
        uploads.acquire_writer(),
        open_stored_file(services(), file) as data,
    ):
        parse_line = line_parser(body.endpoint, services())
        try:
            created = create_batch_from_file(services(), key, data, parse_line, plan)
        except InvalidRequest as error:
            return serialize_rejected_batch(_store_rejected(key, body, file, error))
    return client_closed_response() if created is None else serialize_batch(created.batch)


@blueprint.get("")
@described(
    CallerKind.KEY_OR_USER,
    {200: json_response(OpenAIBatchList, "batches")},
    parameters=(
        limit(DEFAULT_LISTED, MOST_LISTED),
        id_query("after", Prefix.BATCH, "`last_id` of the page before"),
    ),
)
def index() -> ResponseReturnValue:
    """List the caller's batches of `/v1`, newest first, without those of `/api`."""
    most = read_limit(default=DEFAULT_LISTED, most=MOST_LISTED)
    after = read_after(Prefix.BATCH)
    with services().database.sessions() as session:
        user_id = authenticate(session).user.id
        wanted = BatchFilter(user_id, has_endpoint=True)
        created = list_batches(session, wanted, after=after, limit=most)
        refused = list_rejected_batches(session, user_id, after=after, limit=most)
    lists: list[Keyset[Any]] = [created, refused]
    both = merge_keysets(lists, lambda batch: batch.id, limit=most, is_back=False)
    return serialize_list([_serialize(batch) for batch in both.rows], has_more=both.has_after)


@blueprint.get("/<batch_id>")
@described(CallerKind.KEY_OR_USER, {200: json_response(OpenAIBatch, "the batch")}, TOO_MANY_POLLS)
def show(batch_id: str) -> ResponseReturnValue:
    """Return a batch of `/v1`."""
    with services().database.sessions() as session:
        caller = authenticate(session)
        response = _serialize(_find(session, caller, batch_id))
    charge_poll(services(), caller.poller_id)
    return response


@blueprint.post("/<batch_id>/cancel")
@described(CallerKind.KEY_OR_USER, {200: json_response(OpenAIBatch, "the batch after the request")})
def cancel(batch_id: str) -> ResponseReturnValue:
    """Cancel a batch: waiting lines are cancelled at once, running lines end soon.

    A batch that has ended does not change.
    """
    with services().database.sessions.begin() as session:
        caller = authenticate(session)
        found = _find(session, caller, batch_id)
        if isinstance(found, Batch) and not found.is_final:
            audit_admin_act(
                session, "batch.cancel", caller, owner_id=found.user_id, target_id=found.id
            )
    if isinstance(found, Batch) and not found.is_final:
        cancel_batch(services(), found.id)
        with services().database.autocommit() as session:
            found = find_batch(session, found.id) or found
    return _serialize(found)


def _plan(body: BatchBody, file_id: UUID | None, idempotency_key: str | None) -> BatchPlan:
    identity = f"{file_id}\n{body.model_dump_json()}"
    return BatchPlan(
        request_id=g.request_id,
        window=WINDOW,
        labels=body.metadata,
        endpoint=body.endpoint.value,
        input_file_id=file_id,
        idempotency_key=idempotency_key,
        body_hash=hashlib.sha256(identity.encode()).hexdigest(),
    )


def _store_rejected(
    key: RequestKey, body: BatchBody, file: File, refusal: InvalidRequest
) -> RejectedBatch:
    settings = services().settings
    batch = RejectedBatch(
        user_id=key.user_id,
        api_key_id=key.id,
        endpoint=body.endpoint.value,
        model=settings.model_name,
        input_file_id=file.id,
        labels=body.metadata,
        errors=serialize_errors(refusal),
    )
    life = timedelta(days=settings.file_days)
    with services().database.sessions.begin() as session:
        add_rejected_batch(session, batch, life=life)
    return batch


def _find(session: Session, caller: Caller, batch_id: str) -> Batch | RejectedBatch:
    wanted = parse_id(Prefix.BATCH, batch_id)
    batch: Batch | RejectedBatch | None = find_batch(session, wanted) if wanted else None
    if wanted is not None and batch is None:
        batch = find_rejected_batch(session, wanted)
    if batch is None or not caller.may_see(batch.user_id) or batch.endpoint is None:
        raise NotFound("there is no such batch")
    return batch


def _serialize(batch: Batch | RejectedBatch) -> dict[str, Any]:
    return serialize_batch(batch) if isinstance(batch, Batch) else serialize_rejected_batch(batch)
