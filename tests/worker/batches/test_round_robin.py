"""Round robin, as properties over arbitrary batches."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from worker.batches.round_robin import RoundRobin

#: Number of held lines of each batch of each key.
KEYS = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=4), min_size=1, max_size=5)
ROOMS = st.lists(st.integers(0, 7), min_size=1, max_size=60)


class Shop:
    """Keys, their batches, and the remaining lines of these."""

    def __init__(self, sizes: list[list[int]]) -> None:
        self.held: dict[UUID, int] = {}
        self.key_of: dict[UUID, UUID] = {}
        for key, batches in enumerate(sizes):
            for place, size in enumerate(batches):
                batch_id = UUID(int=(key + 1) * 100 + place)
                self.held[batch_id] = size
                self.key_of[batch_id] = UUID(int=key + 1)

    @property
    def open(self) -> dict[UUID, list[UUID]]:
        found: dict[UUID, list[UUID]] = {}
        for batch_id, held in self.held.items():
            if held:
                found.setdefault(self.key_of[batch_id], []).append(batch_id)
        return found

    def draw(self, batch_id: UUID) -> UUID | None:
        if not self.held[batch_id]:
            return None
        self.held[batch_id] -= 1
        return batch_id


@given(sizes=KEYS, rooms=ROOMS)
def test_keys_and_their_batches_get_equal_shares(sizes: list[list[int]], rooms: list[int]) -> None:
    shop, round_robin = Shop(sizes), RoundRobin()
    of_batch: Counter[UUID] = Counter(dict.fromkeys(shop.held, 0))
    for room in rooms:
        held = sum(shop.held.values())
        chosen = round_robin.choose(room, shop.open, shop.draw)
        assert len(chosen) == min(room, held)
        of_batch.update(chosen)

        of_key: Counter[UUID] = Counter()
        for batch_id, count in of_batch.items():
            of_key[shop.key_of[batch_id]] += count
        # Keys with lines get equal shares, and so do batches of one key.
        waiting = shop.open
        for key in waiting:
            assert of_key[key] >= max(of_key.values()) - 1
            for batch_id in waiting[key]:
                siblings = (b for b in shop.held if shop.key_of[b] == key)
                assert of_batch[batch_id] >= max(of_batch[b] for b in siblings) - 1


@given(sizes=KEYS, room=st.integers(0, 40))
def test_the_prediction_is_exact_when_every_batch_has_enough_lines(
    sizes: list[list[int]], room: int
) -> None:
    shop, round_robin = Shop([[100] * len(batches) for batches in sizes]), RoundRobin()
    round_robin.choose(3, shop.open, shop.draw)

    expected = round_robin.predict(room, shop.open)

    assert Counter(round_robin.choose(room, shop.open, shop.draw)) == expected


def test_a_new_key_comes_after_the_current_one() -> None:
    round_robin = RoundRobin()
    one, two, new = (UUID(int=i) for i in (1, 2, 3))
    round_robin.choose(3, {one: [one], two: [two]}, lambda batch_id: batch_id)

    chosen = round_robin.choose(3, {one: [one], two: [two], new: [new]}, lambda batch_id: batch_id)

    assert chosen == [two, new, one]
