"""An account with nothing running gets a place from the one that has most, at a bounded cost."""

from __future__ import annotations

from tests.support.engine.sequences import make_sequence
from worker.engine.hf.scheduling.preemption import COMPUTED_PER_TOKEN, sequence_to_preempt
from worker.engine.hf.state.sequence import Sequence


def running(account: str, lengths: list[int], *, weight: float = 1.0) -> list[Sequence]:
    return [make_sequence(account, prompt=length, weight=weight) for length in lengths]


def test_the_shortest_of_the_account_that_has_most_gives_way() -> None:
    few, most = running("few", [1, 1]), running("most", [30, 10, 20])

    assert sequence_to_preempt(make_sequence("new"), few + most) is most[1]


def test_the_newest_of_those_alike_gives_way() -> None:
    alike = running("a", [5, 5, 5])

    assert sequence_to_preempt(make_sequence("new"), alike) is alike[-1]


def test_nobody_gives_its_only_place() -> None:
    assert sequence_to_preempt(make_sequence("new"), running("a", [5]) + running("b", [5])) is None


def test_an_account_keeps_as_much_for_its_weight_as_the_newcomer_gets() -> None:
    heavy = running("heavy", [5, 5], weight=2.0)

    assert sequence_to_preempt(make_sequence("new"), heavy) is None
    assert (
        sequence_to_preempt(make_sequence("new"), running("heavy", [5, 5, 5], weight=2.0))
        is not None
    )
    assert sequence_to_preempt(make_sequence("new", weight=2.0), heavy) is not None


def test_one_that_gave_way_does_not_again_before_it_made_up_for_it() -> None:
    weary, fresh = running("a", [50, 60])
    weary.tokens, weary.tokens_when_preempted = [1] * 2, 2

    assert sequence_to_preempt(make_sequence("new"), [weary, fresh]) is fresh

    weary.tokens += [1] * (52 // COMPUTED_PER_TOKEN)
    assert sequence_to_preempt(make_sequence("new"), [weary, fresh]) is fresh

    weary.tokens += [1]
    assert sequence_to_preempt(make_sequence("new"), [weary, fresh]) is weary


def test_when_all_of_the_fullest_have_just_given_way_the_next_account_does() -> None:
    weary, next_one = running("a", [5, 5, 5]), running("b", [5, 5])
    for item in weary:
        item.tokens_when_preempted = 0

    assert sequence_to_preempt(make_sequence("new"), weary + next_one) is next_one[-1]
    assert sequence_to_preempt(make_sequence("new"), weary) is None
