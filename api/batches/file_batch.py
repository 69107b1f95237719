"""Creates a batch from the file of its request."""

from __future__ import annotations

from collections.abc import Iterator

from flask import g

from api.batches.generation_line import read_generation_line
from api.batches.ingest import BatchAbandoned, CreatedBatch, create_batch
from api.batches.line_reader import BatchLine, LineLimits, read_lines
from api.batches.plan import plan_upload
from api.batches.upload import ReceivedFile
from api.http.disconnect import present_connection
from api.services import Services
from core.concurrency.greenlets import Yielder
from models.accounts.key_cache import PresentedKey


def create_batch_from_file(
    services: Services, key: PresentedKey, upload: ReceivedFile, idempotency_key: str | None
) -> CreatedBatch | None:
    """Create a batch from an uploaded file; return `None` if the client has disconnected.

    See `create_batch` for errors.
    """
    settings = services.settings
    plan = plan_upload(
        upload.options,
        settings,
        sha256=upload.sha256,
        idempotency_key=idempotency_key,
        request_id=g.request_id,
    )
    limits = LineLimits(max_lines=settings.max_batch_lines, max_bytes=settings.max_body_bytes)

    def lines(yielder: Yielder) -> Iterator[BatchLine]:
        return read_lines(upload.file, read_generation_line, limits, yielder)

    connection = present_connection()

    def is_wanted() -> bool:
        return idempotency_key is not None or not connection.check_twice()

    try:
        return create_batch(services, key, lines, plan, is_wanted=is_wanted)
    except BatchAbandoned:
        return None
