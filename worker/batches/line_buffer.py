"""Buffers held lines of open batches for a dispatcher."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from uuid import UUID

from models.batches.dispatch import HeldLine, next_lines
from models.database.base import Session


class LineBuffer:
    """Held lines of batches in the order of their files, read a few at a time.

    Args:
        first_lines: the first line of each batch that may be held. The caller keeps it between
            passes, so that a pass does not scan released lines again.
    """

    def __init__(self, session: Session, first_lines: dict[UUID, int]) -> None:
        self._session = session
        self._first_lines = first_lines
        self._lines: dict[UUID, deque[HeldLine]] = {}
        self._read_to: dict[UUID, int] = {}
        self._exhausted: set[UUID] = set()
        #: Batches without any held line; they never have one again.
        self.empty: set[UUID] = set()

    def pop(self, batch_id: UUID, limit: int) -> HeldLine | None:
        """Return the next line of a batch and remove it; `None` after the last one.

        Args:
            limit: number of lines to read at most if the buffer is empty.
        """
        if not self._lines.get(batch_id) and batch_id not in self._exhausted:
            self.fetch({batch_id: limit})
        lines = self._lines[batch_id]
        return lines.popleft() if lines else None

    def fetch(self, wanted: Mapping[UUID, int]) -> None:
        """Read the next lines of batches, up to the given number of each."""
        afters = {b: self._read_to.get(b, self._first_lines.get(b, 1) - 1) for b in wanted}
        found: dict[UUID, list[HeldLine]] = {batch_id: [] for batch_id in wanted}
        for line in next_lines(self._session, wanted, afters):
            found[line.batch_id].append(line)
        for batch_id, lines in found.items():
            if len(lines) < wanted[batch_id]:
                self._exhausted.add(batch_id)
            is_first_read = batch_id not in self._read_to
            self._read_to[batch_id] = lines[-1].line if lines else afters[batch_id]
            self._lines.setdefault(batch_id, deque()).extend(lines)
            if is_first_read and lines:
                self._first_lines[batch_id] = lines[0].line
            elif is_first_read:
                self.empty.add(batch_id)
