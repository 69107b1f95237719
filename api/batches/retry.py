"""A retry of a batch: the lines that it runs, and the key that pays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import UUID

from flask import request
from pydantic import ValidationError

from api.auth.authentication import Caller, authenticate_key, check_usable
from api.batches.line_reader import BatchLine, first_fault
from api.http.field_faults import invalid_request
from core.concurrency.greenlets import Yielder
from core.errors import Forbidden
from core.generation import Generation
from models.accounts.api_key import find_key
from models.accounts.key_cache import RequestKey
from models.batches.batch import Batch
from models.batches.lines import UnsuccessfulLine, read_unsuccessful
from models.database.base import Session, database_now
from models.database.prepared import Statements


def key_of_retry(session: Session, caller: Caller, old: Batch) -> RequestKey:
    """Return the key to charge: the caller's, or with a JWT alone, that of the old batch.

    Raises:
        Forbidden: another user owns the old batch and would pay, or its key cannot be used.
    """
    if caller.key is None and "x-api-key-id" in request.headers:
        return RequestKey.of(*authenticate_key(session), database_now(session))
    if old.user_id != caller.user.id:
        raise Forbidden(
            "the owner of the batch would pay: send the id of your own key as `x-api-key-id`"
        )
    found = caller.key or (find_key(session, old.api_key_id) or (None,))[0]
    if found is None:
        raise Forbidden(
            "the key of this batch was deleted: retry the batch with another key", code="forbidden"
        )
    now = database_now(session)
    check_usable(found, lambda: now)
    return RequestKey.of(found, caller.user, now)


def unsuccessful_lines(
    statements: Statements, batch_id: UUID
) -> Callable[[Yielder], Iterator[BatchLine]]:
    """Return a reader of the lines, page by page; numbers and custom ids stay the same."""

    def read(yielder: Yielder) -> Iterator[BatchLine]:
        after = 0
        while found := read_unsuccessful(statements, batch_id, after=after):
            for one in found:
                yielder.yield_if_due()
                yield _line(one)
            after = found[-1].line

    return read


def _line(found: UnsuccessfulLine) -> BatchLine:
    try:
        return BatchLine(found.line, found.custom_id, Generation.from_row(found.request))
    except ValidationError as error:  # the rules have changed since
        return BatchLine(
            found.line, found.custom_id, fault=first_fault(invalid_request(error, of="it"))
        )
