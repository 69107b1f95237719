"""Submits sequences to the loop, each time under a new library id."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from worker.engine.hf.loop import Loop
from worker.engine.hf.state.roster import Roster
from worker.engine.hf.state.sequence import Sequence, child_id, new_state
from worker.engine.protocol import EngineRequest, Handle


class Submitter:
    """Make the states that the library schedules. Hold the roster's lock for every call."""

    def __init__(self, *, loop: Loop, roster: Roster, eos_ids: tuple[int, ...]) -> None:
        self._loop = loop
        self._roster = roster
        self._eos_ids = eos_ids
        self._serials = itertools.count()

    def submit(self, handle: Handle, *, is_held: bool) -> None:
        """Submit a new request with its prompt once; if held, only add it to the roster."""
        request: EngineRequest = handle.request
        sequences = [Sequence(handle, i, next(self._serials)) for i in range(request.n)]
        self._roster.admit(sequences)
        first, *others = sequences
        parent_id = self._new_id(first)
        self._roster.rename(first, parent_id)
        for number, sequence in enumerate(others):
            self._roster.rename(sequence, child_id(parent_id, number))
        for sequence in sequences:
            sequence.is_held = is_held
        if not is_held:
            state = new_state(first, parent_id, eos_ids=self._eos_ids, children=len(others))
            self._loop.enqueue([state])

    def resubmit(self, sequences: Iterable[Sequence]) -> None:
        """Submit sequences again, each as a state of its own that continues its tokens."""
        states = []
        for sequence in sequences:
            library_id = self._new_id(sequence)
            self._roster.rename(sequence, library_id)
            sequence.is_held = False
            states.append(new_state(sequence, library_id, eos_ids=self._eos_ids))
        self._loop.enqueue(states)

    def hold(self, sequences: Iterable[Sequence]) -> None:
        """Take sequences out of the loop until they are resubmitted."""
        for sequence in sequences:
            self._loop.cancel(sequence.library_id)
            sequence.is_held = True
            self._roster.rename(sequence, self._new_id(sequence))

    def _new_id(self, sequence: Sequence) -> str:
        return f"{sequence.serial}.{next(self._serials)}"
