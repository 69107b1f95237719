"""Finds the request that makes the loop fail: suspects run again in ever smaller groups.

A group runs alone in the loop. It passes when each of its sequences has generated a token or ended.
A sequence that fails alone, and not for the first time, is at fault.
"""

from __future__ import annotations

from collections.abc import Sequence as Items

from worker.engine.hf.state.sequence import Sequence

#: Failed batches after which a sequence is at fault. Halving finds one among 1024 sooner.
MAX_STRIKES = 16


class Probation:
    """The group of suspects that runs, and those that wait."""

    def __init__(self) -> None:
        self._groups: list[list[Sequence]] = []
        self.current: list[Sequence] = []

    @property
    def is_active(self) -> bool:
        return bool(self.current or self._groups)

    def fail(self, suspects: Items[Sequence]) -> list[Sequence]:
        """Record that a batch of these sequences failed, and return those at fault.

        The others wait in groups for `next_group`.
        """
        for sequence in suspects:
            sequence.strikes += 1
        is_alone = len(suspects) == 1
        guilty = [s for s in suspects if (is_alone and s.strikes > 1) or s.strikes >= MAX_STRIKES]
        rest = [sequence for sequence in suspects if sequence not in guilty]
        unfinished = [self.current, *self._groups] if self.current else self._groups
        remaining = [[s for s in group if s not in suspects] for group in unfinished]
        self.current = []
        self._groups = [group for group in [*_halves(rest), *remaining] if group]
        return guilty

    @property
    def has_passed(self) -> bool:
        """Whether each sequence of the running group has generated a token or ended."""
        return all(sequence.is_cleared or sequence.is_ended for sequence in self.current)

    def next_group(self) -> list[Sequence]:
        """Return the next group to run; an empty group ends the probation."""
        self.current = []
        while self._groups and not self.current:
            self.current = [s for s in self._groups.pop(0) if not s.is_ended]
        return self.current


def _halves(suspects: list[Sequence]) -> list[list[Sequence]]:
    middle = (len(suspects) + 1) // 2
    return [suspects[:middle], suspects[middle:]]
