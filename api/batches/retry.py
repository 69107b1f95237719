"""Reads the unsuccessful lines of a batch for a retry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import UUID

from pydantic import ValidationError

from api.batches.line_reader import BatchLine, first_fault
from api.http.field_faults import invalid_request
from core.concurrency.greenlets import Yielder
from core.generation import Generation
from models.batches.lines import UnsuccessfulLine, read_unsuccessful
from models.database.prepared import Statements


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
