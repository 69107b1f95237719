"""Round robin gives equal shares to keys, and to the batches of one key."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from worker.batches.round_robin import RoundRobin

#: Number of held lines of each batch of each key.
SIZES = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=4), min_size=1, max_size=5)
#: Lines to release in each pass.
COUNTS = st.lists(st.integers(0, 7), min_size=1, max_size=60)


class HeldLines:
    """The held lines of each batch, and the key of each batch."""

    def __init__(self, sizes: list[list[int]]) -> None:
        self.held: dict[UUID, int] = {}
        self.key_of: dict[UUID, UUID] = {}
        for key, batches in enumerate(sizes):
            for index, size in enumerate(batches):
                batch_id = UUID(int=(key + 1) * 100 + index)
                self.held[batch_id] = size
                self.key_of[batch_id] = UUID(int=key + 1)

    @property
    def batches(self) -> dict[UUID, list[UUID]]:
        """The batches with held lines, of each key."""
        found: dict[UUID, list[UUID]] = {}
        for batch_id, held in self.held.items():
            if held:
                found.setdefault(self.key_of[batch_id], []).append(batch_id)
        return found

    def take(self, batch_id: UUID) -> UUID | None:
        """Return and remove a line of a batch, here the batch's id; None if it has none."""
        if not self.held[batch_id]:
            return None
        self.held[batch_id] -= 1
        return batch_id


@given(sizes=SIZES, counts=COUNTS)
def test_keys_and_their_batches_get_equal_shares(sizes: list[list[int]], counts: list[int]) -> None:
    lines, round_robin = HeldLines(sizes), RoundRobin()
    of_batch: Counter[UUID] = Counter(dict.fromkeys(lines.held, 0))
    for count in counts:
        held = sum(lines.held.values())
        chosen = round_robin.choose(count, lines.batches, lines.take)
        assert len(chosen) == min(count, held)
        of_batch.update(chosen)

        of_key: Counter[UUID] = Counter()
        for batch_id, released in of_batch.items():
            of_key[lines.key_of[batch_id]] += released
        # Keys with held lines get equal shares, and so do batches of one key.
        waiting = lines.batches
        for key in waiting:
            assert of_key[key] >= max(of_key.values()) - 1
            for batch_id in waiting[key]:
                siblings = (b for b in lines.held if lines.key_of[b] == key)
                assert of_batch[batch_id] >= max(of_batch[b] for b in siblings) - 1


@given(sizes=SIZES, count=st.integers(0, 40))
def test_the_prediction_is_exact_when_every_batch_has_enough_lines(
    sizes: list[list[int]], count: int
) -> None:
    lines, round_robin = HeldLines([[100] * len(batches) for batches in sizes]), RoundRobin()
    round_robin.choose(3, lines.batches, lines.take)

    expected = round_robin.predict(count, lines.batches)

    assert Counter(round_robin.choose(count, lines.batches, lines.take)) == expected


def test_a_new_key_comes_after_the_current_one() -> None:
    round_robin = RoundRobin()
    one, two, new = (UUID(int=i) for i in (1, 2, 3))
    round_robin.choose(3, {one: [one], two: [two]}, lambda batch_id: batch_id)

    chosen = round_robin.choose(3, {one: [one], two: [two], new: [new]}, lambda batch_id: batch_id)

    assert chosen == [two, new, one]
