"""Probation finds the sequence that fails batches in few tries, and blames no other."""

from __future__ import annotations

import pytest

from tests.support.engine.sequences import make_sequence
from worker.engine.hf.recovery.probation import MAX_STRIKES, Probation


@pytest.mark.parametrize("count", [1, 2, 3, 8, 31, 64])
@pytest.mark.parametrize("guilty_at", [0, -1])
def test_the_guilty_one_is_found_in_few_failures(count: int, guilty_at: int) -> None:
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


def test_a_failure_that_no_sequence_causes_alone_ends_after_the_last_strike() -> None:
    pair = [make_sequence("a"), make_sequence("a")]
    probation = Probation()

    blamed = []
    for _ in range(MAX_STRIKES):
        blamed += probation.fail(pair)
        while probation.next_group():
            pass

    assert blamed == pair


def test_a_group_passes_when_each_has_made_a_token_or_ended() -> None:
    first, second = make_sequence("a"), make_sequence("a")
    probation = Probation()
    probation.current = [first, second]

    first.is_cleared = True
    assert not probation.has_passed
    second.handle.ended.add(0)
    assert probation.has_passed
