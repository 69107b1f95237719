"""Finds batches that a caller may see: their own, or all for an admin."""

from __future__ import annotations

from api.auth.authentication import Caller
from core.errors import NotFound
from core.ids import Prefix, parse_id
from models.batches.batch import Batch
from models.batches.reads import find_batch
from models.database.base import Session


def find_visible_batch(session: Session, caller: Caller, batch_id: str) -> Batch:
    """Return the batch with this public id.

    Raises:
        NotFound: it does not exist, another user owns it, or retention is deleting it.
    """
    wanted = parse_id(Prefix.BATCH, batch_id)
    batch = find_batch(session, wanted) if wanted else None
    if batch is None or not caller.may_see(batch.user_id):
        raise NotFound("there is no such batch")
    return batch
