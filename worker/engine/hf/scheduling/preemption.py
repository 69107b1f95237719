"""Chooses the sequence to preempt for an account that has nothing running in a full batch.

Keeping a slot free for such accounts would cost every full batch the tokens of that slot, and would
help one account at a time. Preemption costs only when it happens: the engine computes the tokens of
one sequence again. The choice is the shortest sequence of the account that has most. It is not
chosen again before it has generated more tokens, so that many short requests cannot stop a long
one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from worker.engine.hf.state.sequence import Sequence

#: A preempted sequence may be preempted again after one new token for so many computed again.
COMPUTED_PER_TOKEN = 16


def sequence_to_preempt(waiting: Sequence, running: Iterable[Sequence]) -> Sequence | None:
    """Return the sequence to preempt for one of an account with nothing running.

    Returns `None` if no account has more than its share. An account keeps at least one slot, and as
    many for its weight as the other account then has.

    Args:
        waiting: the sequence that needs a slot.
        running: the sequences that may be preempted.
    """
    own = 1 / waiting.request.weight
    by_account: dict[str, list[Sequence]] = defaultdict(list)
    for sequence in running:
        by_account[sequence.request.account].append(sequence)
    for members in sorted(by_account.values(), key=_load, reverse=True):
        if len(members) < 2 or _load(members[1:]) < own:
            continue
        if preemptible := [sequence for sequence in members if _is_preemptible(sequence)]:
            return min(preemptible, key=lambda sequence: (_length(sequence), -sequence.serial))
    return None


def _load(members: Iterable[Sequence]) -> float:
    return sum(1 / sequence.request.weight for sequence in members)


def _is_preemptible(sequence: Sequence) -> bool:
    """Whether the sequence was never preempted, or generated enough tokens since."""
    if sequence.tokens_when_preempted is None:
        return True
    made = len(sequence.tokens) - sequence.tokens_when_preempted
    return made > 0 and made * COMPUTED_PER_TOKEN >= _length(sequence)


def _length(sequence: Sequence) -> int:
    return sequence.prompt_length + len(sequence.tokens)
