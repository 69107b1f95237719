"""Probation finds the sequence that fails steps in few failures, and blames no other."""

from __future__ import annotations

import pytest

from tests.support.engine.sequences import make_sequence
from worker.engine.hf.recovery.probation import MAX_STRIKES, Probation


@pytest.mark.parametrize("count", [1, 2, 3, 8, 31, 64])
@pytest.mark.parametrize("guilty_at", [0, -1])
def test_the_guilty_sequence_is_found_in_few_failures(count: int, guilty_at: int) -> None:
    suspects = [make_sequence("a") for _ in range(count)]
    guilty = suspects[guilty_at]
    probation = Probation()
    blamed = probation.fail(suspects)
    failures = 1

    while group := probation.next_group():
        if guilty in group and not blamed:
            blamed += probation.fail(group)
            failures += 1

    assert blamed == [guilty]
    assert failures <= 2 + count.bit_length()
    assert not probation.is_active


def test_sequences_that_fail_only_together_are_blamed_after_the_last_strike() -> None:
    """A group of one passes, so no failure shows which sequence is guilty."""
    both = [make_sequence("a"), make_sequence("a")]
    probation = Probation()

    blamed = []
    for _ in range(MAX_STRIKES):
        blamed += probation.fail(both)
        while probation.next_group():
            pass

    assert blamed == both


def test_a_group_passes_when_each_sequence_has_a_token_or_ended() -> None:
    first, second = make_sequence("a"), make_sequence("a")
    probation = Probation()
    probation.current = [first, second]

    first.is_cleared = True
    assert not probation.has_passed
    second.handle.ended.add(0)
    assert probation.has_passed
