"""Creates a batch from a file, for the current request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from flask import g

from api.batches.generation_line import read_generation_line
from api.batches.ingest import BatchAbandoned, CreatedBatch, create_batch
from api.batches.line_reader import BatchLine, LineLimits, LineParser, read_lines
from api.batches.new_batch import BatchPlan, plan_upload
from api.batches.upload import ReceivedFile
from api.http.disconnect import present_connection
from api.services import Services
from core.concurrency.greenlets import Yielder
from models.accounts.key_cache import RequestKey


def create_batch_from_upload(
    services: Services, key: RequestKey, upload: ReceivedFile, idempotency_key: str | None
) -> CreatedBatch | None:
    """Create a batch from the file of the current request, in the native format.

    See `create_batch_from_file`.
    """
    plan = plan_upload(
        upload.options,
        services.settings,
        sha256=upload.sha256,
        idempotency_key=idempotency_key,
        request_id=g.request_id,
    )
    return create_batch_from_file(services, key, upload.file, read_generation_line, plan)


def create_batch_from_file(
    services: Services,
    key: RequestKey,
    file: IO[bytes],
    parse_line: LineParser,
    plan: BatchPlan,
) -> CreatedBatch | None:
    """Create a batch from a file; return `None` if the client has disconnected.

    A request with an idempotency key completes without its client, which may retry it.

    See `create_batch` for errors.
    """
    settings = services.settings
    limits = LineLimits(max_lines=settings.max_batch_lines, max_bytes=settings.max_body_bytes)
    connection = present_connection()

    def lines(yielder: Yielder) -> Iterator[BatchLine]:
        return read_lines(file, parse_line, limits, yielder)

    def is_wanted() -> bool:
        return plan.idempotency_key is not None or not connection.check_twice()

    try:
        return create_batch(services, key, lines, plan, is_wanted=is_wanted)
    except BatchAbandoned:
        return None
