"""An account without a slot gets one of the account that has most, at a bounded cost."""

from __future__ import annotations

from tests.support.engine.sequences import make_sequence
from worker.engine.hf.scheduling.preemption import COMPUTED_PER_TOKEN, sequence_to_preempt
from worker.engine.hf.state.sequence import Sequence


def running(account: str, lengths: list[int], *, weight: float = 1.0) -> list[Sequence]:
    """Return running sequences of an account with prompts of the given lengths."""
    return [make_sequence(account, prompt=length, weight=weight) for length in lengths]


def test_the_shortest_of_the_account_that_has_most_is_preempted() -> None:
    few, most = running("few", [1, 1]), running("most", [30, 10, 20])

    assert sequence_to_preempt(make_sequence("new"), few + most) is most[1]


def test_the_newest_of_equally_short_sequences_is_preempted() -> None:
    equals = running("a", [5, 5, 5])

    assert sequence_to_preempt(make_sequence("new"), equals) is equals[-1]


def test_no_account_loses_its_only_slot() -> None:
    assert sequence_to_preempt(make_sequence("new"), running("a", [5]) + running("b", [5])) is None


def test_an_account_keeps_slots_in_proportion_to_its_weight() -> None:
    heavy = running("heavy", [5, 5], weight=2.0)

    assert sequence_to_preempt(make_sequence("new"), heavy) is None
    assert (
        sequence_to_preempt(make_sequence("new"), running("heavy", [5, 5, 5], weight=2.0))
        is not None
    )
    assert sequence_to_preempt(make_sequence("new", weight=2.0), heavy) is not None


def test_a_second_preemption_needs_enough_new_tokens() -> None:
    """Otherwise a sequence could be preempted for ever and never end."""
    preempted, fresh = running("a", [50, 60])
    preempted.tokens, preempted.tokens_when_preempted = [1] * 2, 2

    assert sequence_to_preempt(make_sequence("new"), [preempted, fresh]) is fresh

    preempted.tokens += [1] * (52 // COMPUTED_PER_TOKEN)
    assert sequence_to_preempt(make_sequence("new"), [preempted, fresh]) is fresh

    preempted.tokens += [1]
    assert sequence_to_preempt(make_sequence("new"), [preempted, fresh]) is preempted


def test_the_next_account_is_preempted_after_all_sequences_of_the_fullest_were() -> None:
    preempted, second = running("a", [5, 5, 5]), running("b", [5, 5])
    for item in preempted:
        item.tokens_when_preempted = 0

    assert sequence_to_preempt(make_sequence("new"), preempted + second) is second[-1]
    assert sequence_to_preempt(make_sequence("new"), preempted) is None
