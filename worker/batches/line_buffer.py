"""The held lines of open batches, as a feeder takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from uuid import UUID

from models.batches.dispatch import HeldLine, next_lines
from models.database.base import Session


class LineSupply:
    """Held lines of batches in their order, read a few at a time.

    Args:
        first_lines: of each batch, before which line nothing is held any more; kept between looks,
            so that what was released long ago is not gone through again.
    """

    def __init__(self, session: Session, first_lines: dict[UUID, int]) -> None:
        self._session = session
        self._first_lines = first_lines
        self._lines: dict[UUID, deque[HeldLine]] = {}
        self._seen_to: dict[UUID, int] = {}
        self._short: set[UUID] = set()
        #: Batches that have no held lines at all, and never will again.
        self.empty: set[UUID] = set()

    def draw(self, batch_id: UUID, most: int) -> HeldLine | None:
        """Take the next line of a batch; `None` if it has no more."""
        if not self._lines.get(batch_id) and batch_id not in self._short:
            self.fetch({batch_id: most})
        lines = self._lines[batch_id]
        return lines.popleft() if lines else None

    def fetch(self, wanted: Mapping[UUID, int]) -> None:
        """Read up to so many lines more of each batch."""
        afters = {b: self._seen_to.get(b, self._first_lines.get(b, 1) - 1) for b in wanted}
        found: dict[UUID, list[HeldLine]] = {batch_id: [] for batch_id in wanted}
        for line in next_lines(self._session, wanted, afters):
            found[line.batch_id].append(line)
        for batch_id, lines in found.items():
            if len(lines) < wanted[batch_id]:
                self._short.add(batch_id)
            is_first_look = batch_id not in self._seen_to
            self._seen_to[batch_id] = lines[-1].line if lines else afters[batch_id]
            self._lines.setdefault(batch_id, deque()).extend(lines)
            if is_first_look and lines:
                self._first_lines[batch_id] = lines[0].line
            elif is_first_look:
                self.empty.add(batch_id)
