"""`/v1/files`: the input files and the result files of batches."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from api.auth.auditing import audit_admin_act
from api.auth.authentication import Caller, authenticate
from api.auth.write_limits import count_bytes
from api.batches.download import WRITE_SECONDS
from api.batches.results import ResultFile
from api.batches.upload import FORM_TYPE, ReceivedFile, receive_file
from api.generation.pipeline import authenticate_fresh_key
from api.generation.polling import charge_poll
from api.http.disconnect import present_connection
from api.openapi.operation import CallerKind, described
from api.openapi.parameters import id_query, limit, query
from api.openapi.refusals import (
    OVERLOADED,
    TOO_MANY_FILES,
    TOO_MANY_POLLS,
    TOO_MANY_STREAMS,
    TOO_MANY_UPLOADS,
)
from api.openapi.response import JSONL, ResponseSpec, json_response
from api.openapi.upload import UploadSpec
from api.runtime.user_slots import SlotKind
from api.services import services
from api.v1.batches.file_form import FileForm, FileOptions, clean_name, read_options
from api.v1.batches.file_storage import store_file, stream_file
from api.v1.batches.output_files import ResultFileId, serialize_line
from api.v1.batches.schemas import BatchFileLine, DeletedFile, OpenAIFile, OpenAIFileList
from api.v1.listing import read_after, read_limit, serialize_list
from core.errors import InvalidRequest, NotFound, UnsupportedMediaType
from core.ids import Prefix, format_id, new_id, parse_id
from models.accounts.key_cache import RequestKey
from models.batches.batch import Batch
from models.batches.reads import find_batch
from models.database.base import Session
from models.files.file import File
from models.files.store import expire_file, find_file, list_files

blueprint = Blueprint("v1_files", __name__, url_prefix="/v1/files")

PURPOSE = "batch"
OUTPUT_PURPOSE = "batch_output"
#: OpenAI's maximum.
MOST_LISTED = 10_000
ANY_TYPE = "application/octet-stream"


@blueprint.post("")
@described(
    CallerKind.KEY,
    {200: json_response(OpenAIFile, "the file")},
    TOO_MANY_FILES,
    TOO_MANY_UPLOADS,
    OVERLOADED,
    upload=UploadSpec((), None, FileForm),
)
def create() -> ResponseReturnValue:
    """Store a file for a batch.

    It is deleted after `FILE_DAYS`, or at the time of `expires_after`.
    """
    key = authenticate_fresh_key()
    if request.mimetype != FORM_TYPE:
        raise UnsupportedMediaType(f"send the file in a form as {FORM_TYPE}")
    charge = partial(count_bytes, services(), key.user_id)
    uploads = services().slots.uploads
    with (
        uploads.acquire(key.user_id),
        receive_file(request, services().settings, charge=charge) as upload,
        uploads.acquire_writer(),
    ):
        options = read_options(upload.options)
        file = _new_file(key, upload)
        store_file(services(), file, upload.file, life=_life_of(options))
    return _serialize(file)


@blueprint.get("")
@described(
    CallerKind.KEY_OR_USER,
    {200: json_response(OpenAIFileList, "files")},
    parameters=(
        limit(MOST_LISTED, MOST_LISTED),
        id_query("after", Prefix.FILE, "`last_id` of the page before"),
        query("order", Literal["asc", "desc"], "by time; `desc` is newest first, and the default"),
        query("purpose", str, "only files with this purpose"),
    ),
)
def index() -> ResponseReturnValue:
    """List the caller's uploaded files, newest first.

    The list has no result files of batches: each batch has the ids of its two files.
    """
    most, after = read_limit(default=MOST_LISTED, most=MOST_LISTED), read_after(Prefix.FILE)
    order = request.args.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("order must be asc or desc", param="order")
    with services().database.sessions() as session:
        caller = authenticate(session)
        if request.args.get("purpose", PURPOSE) != PURPOSE:
            return serialize_list([], has_more=False)
        files = list_files(
            session,
            caller.user.id,
            after=after,
            limit=most,
            is_newest_first=order == "desc",
        )
    return serialize_list([_serialize(file) for file in files.rows], has_more=files.has_after)


@blueprint.get("/<file_id>")
@described(
    CallerKind.KEY_OR_USER,
    {200: json_response(OpenAIFile, "the file")},
    TOO_MANY_POLLS,
    TOO_MANY_STREAMS,
)
def show(file_id: str) -> ResponseReturnValue:
    """Return the metadata of a file.

    For the `bytes` of a batch's result file, the service reads all of it.
    """
    with services().database.sessions() as session:
        caller = authenticate(session)
        found = _find(session, caller, file_id)
    charge_poll(services(), caller.poller_id)
    if isinstance(found, File):
        return _serialize(found)
    batch, name = found
    with services().slots.connections.acquire(caller.user.id, SlotKind.STREAM):
        size = sum(map(len, _lines_of(batch, name)))
    return _serialize_result_file(batch, name, size)


@blueprint.get("/<file_id>/content")
@described(
    CallerKind.KEY_OR_USER,
    {200: ResponseSpec("the file as it is", {ANY_TYPE: None, JSONL: BatchFileLine})},
    TOO_MANY_POLLS,
    TOO_MANY_STREAMS,
)
def content(file_id: str) -> ResponseReturnValue:
    """Return a file's content.

    The connection breaks if the content cannot be sent to its end.
    """
    with services().database.sessions() as session:
        caller = authenticate(session)
        found = _find(session, caller, file_id)
    charge_poll(services(), caller.poller_id)
    if isinstance(found, File):
        response = Response(stream_file(services(), found), mimetype=ANY_TYPE)
        response.content_length = found.bytes
    else:
        response = Response(iter(_lines_of(*found)), mimetype=JSONL)
    return _send(response, caller)


@blueprint.delete("/<file_id>")
@described(CallerKind.KEY_OR_USER, {200: json_response(DeletedFile, "it is deleted")})
def delete(file_id: str) -> ResponseReturnValue:
    """Delete an uploaded file; batches that were created from it continue without it.

    The result files of a batch cannot be deleted.
    """
    with services().database.sessions.begin() as session:
        caller = authenticate(session)
        found = _find(session, caller, file_id)
        if not isinstance(found, File):
            raise InvalidRequest("the result files of a batch cannot be deleted")
        audit_admin_act(session, "file.delete", caller, owner_id=found.user_id, target_id=found.id)
        expire_file(session, found.id)
    return {"id": file_id, "object": "file", "deleted": True}


def _new_file(key: RequestKey, upload: ReceivedFile) -> File:
    if not upload.size:
        raise InvalidRequest("the file is empty", param="file")
    return File(
        id=new_id(),
        user_id=key.user_id,
        api_key_id=key.id,
        filename=clean_name(upload.filename),
        purpose=PURPOSE,
        bytes=upload.size,
    )


def _life_of(options: FileOptions) -> timedelta:
    if options.seconds is not None:
        return timedelta(seconds=options.seconds)
    return timedelta(days=services().settings.file_days)


def _find(session: Session, caller: Caller, file_id: str) -> File | tuple[Batch, ResultFileId]:
    wanted = parse_id(Prefix.FILE, file_id)
    file = find_file(session, wanted) if wanted else None
    if file is not None and caller.may_see(file.user_id):
        return file
    name = ResultFileId.read(file_id)
    batch = find_batch(session, name.batch_id) if name else None
    if batch is None or name is None or batch.endpoint is None or not batch.is_final:
        raise NotFound("there is no such file")
    if not caller.may_see(batch.user_id) or not name.kind.count_lines(batch):
        raise NotFound("there is no such file")
    return batch, name


def _lines_of(batch: Batch, name: ResultFileId) -> ResultFile:
    return ResultFile(
        services().database.statements,
        batch.id,
        after=0,
        states=name.kind.states,
        connection=present_connection(),
        ends_with_connection=request.environ.get("SERVER_PROTOCOL") == "HTTP/1.0",
        show=lambda job: serialize_line(batch, job),
    )


def _send(response: Response, caller: Caller) -> Response:
    with ExitStack() as held:
        held.enter_context(services().slots.connections.acquire(caller.user.id, SlotKind.STREAM))
        held.enter_context(present_connection().write_timeout(WRITE_SECONDS))
        response.call_on_close(held.pop_all().close)
    response.headers["x-accel-buffering"] = "no"
    return response


def _serialize(file: File) -> dict[str, Any]:
    return _serialize_file(
        format_id(Prefix.FILE, file.id),
        size=file.bytes,
        created_at=file.created_at,
        expires_at=file.expires_at,
        filename=file.filename,
        purpose=file.purpose,
    )


def _serialize_result_file(batch: Batch, name: ResultFileId, size: int) -> dict[str, Any]:
    return _serialize_file(
        str(name),
        size=size,
        created_at=batch.finished_at or batch.created_at,
        expires_at=None,
        filename=f"{format_id(Prefix.BATCH, batch.id)}_{name.kind}.jsonl",
        purpose=OUTPUT_PURPOSE,
    )


def _serialize_file(
    file_id: str,
    *,
    size: int,
    created_at: datetime,
    expires_at: datetime | None,
    filename: str,
    purpose: str,
) -> dict[str, Any]:
    return {
        "id": file_id,
        "object": "file",
        "bytes": size,
        "created_at": int(created_at.timestamp()),
        "expires_at": None if expires_at is None else int(expires_at.timestamp()),
        "filename": filename,
        "purpose": purpose,
        "status": "processed",
        "status_details": None,
    }
