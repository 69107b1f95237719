"""Who gives its place to an account that has nothing running, when nobody else can come in.

To keep a place free for such accounts instead would cost every full batch that place's tokens, and
help one account at a time. To give way costs only when somebody comes: the tokens of one sequence
are computed again. They are those of the shortest one of the account that has most, and never
again before it has made some more: so a line of short requests cannot stop a long one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from worker.engine.hf.state.sequence import Sequence

#: After it gave way, a sequence makes one token for so many computed again before the next time.
COMPUTED_PER_TOKEN = 16


def sequence_to_preempt(newcomer: Sequence, running: Iterable[Sequence]) -> Sequence | None:
    """Return the sequence that makes room for one of an account with nothing running.

    `None` when no account has more than its share, by weight: it keeps at least one place, and as
    many for its weight as the newcomer then has.
    """
    own = 1 / newcomer.request.weight
    by_account: dict[str, list[Sequence]] = defaultdict(list)
    for sequence in running:
        by_account[sequence.request.account].append(sequence)
    for members in sorted(by_account.values(), key=_load, reverse=True):
        if len(members) < 2 or _load(members[1:]) < own:
            continue
        if able := [sequence for sequence in members if _is_preemptible(sequence)]:
            return min(able, key=lambda sequence: (_length(sequence), -sequence.serial))
    return None


def _load(members: Iterable[Sequence]) -> float:
    return sum(1 / sequence.request.weight for sequence in members)


def _is_preemptible(sequence: Sequence) -> bool:
    """Whether the sequence never gave way, or made enough tokens since it did."""
    if sequence.tokens_when_preempted is None:
        return True
    made = len(sequence.tokens) - sequence.tokens_when_preempted
    return made > 0 and made * COMPUTED_PER_TOKEN >= _length(sequence)


def _length(sequence: Sequence) -> int:
    return sequence.prompt_length + len(sequence.tokens)
