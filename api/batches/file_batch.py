"""A batch of a file that came with its request."""

from __future__ import annotations

from collections.abc import Iterator

from flask import g

from api.batches.generation_line import read_generation_line
from api.batches.ingest import Abandoned, Made, make_batch
from api.batches.line_reader import Line, LineLimits, read_lines
from api.batches.plan import plan_upload
from api.batches.upload import Upload
from api.http.disconnect import present_hang_up
from api.services import Services
from core.concurrency.greenlets import Turns
from models.accounts.key_cache import PresentedKey


def make_batch_of_file(
    services: Services, key: PresentedKey, upload: Upload, idempotency_key: str | None
) -> Made | None:
    """Return the batch that was made of a file; `None` if nobody waits for it any more.

    It raises what `make_batch` raises.
    """
    settings = services.settings
    plan = plan_upload(
        upload.options,
        settings,
        sha256=upload.sha256,
        idempotency_key=idempotency_key,
        request_id=g.request_id,
    )
    limits = LineLimits(most_lines=settings.max_batch_lines, most_bytes=settings.max_body_bytes)

    def lines(turns: Turns) -> Iterator[Line]:
        return read_lines(upload.file, read_generation_line, limits, turns)

    hang_up = present_hang_up()

    def is_wanted() -> bool:
        return idempotency_key is not None or not hang_up.look_twice()

    try:
        return make_batch(services, key, lines, plan, is_wanted=is_wanted)
    except Abandoned:
        return None
