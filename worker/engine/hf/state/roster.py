"""The sequences that have not ended, by the library's ids, and the ends not delivered yet.

Hold `lock` for every change. The engine's thread does not hold it while it delivers events.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

from worker.engine.hf.state.fairness import VirtualCounters
from worker.engine.hf.state.sequence import Sequence
from worker.engine.protocol import FinishReason, Handle, StepEvent


class Roster:
    """The sequences in the engine, and the ends that its thread has still to deliver."""

    def __init__(self, counters: VirtualCounters) -> None:
        self.lock = threading.Lock()
        self._counters = counters
        self._handles: dict[str, Handle] = {}
        self._sequences: dict[str, Sequence] = {}
        self._ends: deque[StepEvent] = deque()

    def __len__(self) -> int:
        return len(self._sequences)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._handles

    def get(self, library_id: str) -> Sequence | None:
        """Return the sequence whose current id this is; safe without the lock."""
        return self._sequences.get(library_id)

    def live(self) -> list[Sequence]:
        """Return the sequences that have not ended, in order of arrival."""
        return sorted(self._sequences.values(), key=lambda sequence: sequence.serial)

    def of(self, handle: Handle) -> list[Sequence]:
        """Return the sequences of one handle that have not ended."""
        return [s for s in self._sequences.values() if s.handle is handle]

    def admit(self, sequences: Iterable[Sequence]) -> None:
        """Add the sequences of a request; `rename` then gives each its first id."""
        for sequence in sequences:
            self._handles[sequence.request.request_id] = sequence.handle
            self._counters.join(sequence.request.account)

    def rename(self, sequence: Sequence, library_id: str) -> None:
        """Give the sequence a new id; outputs of the old id are ignored from now on."""
        self._sequences.pop(sequence.library_id, None)
        sequence.library_id = library_id
        sequence.is_cleared = False
        self._sequences[library_id] = sequence

    def end(self, sequence: Sequence) -> bool:
        """Mark the sequence as ended; return False if it had ended before."""
        if sequence.is_ended:
            return False
        sequence.handle.ended.add(sequence.index)
        self._sequences.pop(sequence.library_id, None)
        self._counters.leave(sequence.request.account)
        if sequence.handle.is_finished:
            self._handles.pop(sequence.request.request_id, None)
        return True

    def end_later(
        self, sequences: Iterable[Sequence], reason: FinishReason, error: str | None = None
    ) -> list[Sequence]:
        """End sequences, queue their events for the next delivery, and return those that ended."""
        ended = [sequence for sequence in sequences if self.end(sequence)]
        for sequence in ended:
            self._ends.append(
                StepEvent(sequence.handle, sequence.index, finish_reason=reason, error=error)
            )
        return ended

    def take_ends(self) -> list[StepEvent]:
        """Return the ends not delivered yet, and empty their queue."""
        ends = list(self._ends)
        self._ends.clear()
        return ends
