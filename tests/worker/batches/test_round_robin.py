"""Round robin, as a property over whatever batches there are."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from worker.batches.round_robin import RoundRobin

#: Of each key, how many lines each of its batches holds.
KEYS = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=4), min_size=1, max_size=5)
ROOMS = st.lists(st.integers(0, 7), min_size=1, max_size=60)


class Shop:
    """Keys, their batches and what these still hold."""

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
def test_everybody_has_had_as_many_turns_as_the_others(
    sizes: list[list[int]], rooms: list[int]
) -> None:
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
        # Who still has lines was passed over by nobody: keys among keys, batches within a key.
        waiting = shop.open
        for key in waiting:
            assert of_key[key] >= max(of_key.values()) - 1
            for batch_id in waiting[key]:
                siblings = (b for b in shop.held if shop.key_of[b] == key)
                assert of_batch[batch_id] >= max(of_batch[b] for b in siblings) - 1


@given(sizes=KEYS, room=st.integers(0, 40))
def test_what_is_expected_is_what_is_dealt_where_nobody_runs_short(
    sizes: list[list[int]], room: int
) -> None:
    shop, round_robin = Shop([[100] * len(batches) for batches in sizes]), RoundRobin()
    round_robin.choose(3, shop.open, shop.draw)

    expected = round_robin.predict(room, shop.open)

    assert Counter(round_robin.choose(room, shop.open, shop.draw)) == expected


def test_a_newcomer_has_the_turn_after_the_present_one() -> None:
    round_robin = RoundRobin()
    one, two, new = (UUID(int=i) for i in (1, 2, 3))
    round_robin.choose(3, {one: [one], two: [two]}, lambda batch_id: batch_id)

    chosen = round_robin.choose(3, {one: [one], two: [two], new: [new]}, lambda batch_id: batch_id)

    assert chosen == [two, new, one]
