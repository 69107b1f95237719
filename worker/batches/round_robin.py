"""Whose turn is next: round robin over keys, and within a key over its batches."""

from __future__ import annotations

import copy
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar
from uuid import UUID

T = TypeVar("T")


class Rota:
    """Remembers where it stopped, so that it is fair also where there is room for few at a time.

    Another one, of another process, may begin anywhere: each is fair by itself.
    """

    def __init__(self) -> None:
        self._last_key: UUID | None = None
        self._last_batch: dict[UUID, UUID] = {}

    def deal(
        self,
        room: int,
        batches: Mapping[UUID, Iterable[UUID]],
        draw: Callable[[UUID], T | None],
    ) -> list[T]:
        """Return up to `room` lines in the order of their turns.

        Args:
            batches: of each key.
            draw: takes the next line of a batch; `None` if it has no more.
        """
        self._last_batch = {k: last for k, last in self._last_batch.items() if k in batches}
        queues = {
            key: deque(_from_beyond(ids, self._last_batch.get(key))) for key, ids in batches.items()
        }
        keys = deque(_from_beyond(queues, self._last_key))
        dealt: list[T] = []
        while keys and len(dealt) < room:
            key = keys.popleft()
            line = self._draw(key, queues[key], draw)
            if line is not None:  # else the key has no more lines and no more turns
                self._last_key = key
                keys.append(key)
                dealt.append(line)
        return dealt

    def expect(self, room: int, batches: Mapping[UUID, Iterable[UUID]]) -> Counter[UUID]:
        """Return how many lines of each batch the next deal takes if none of them runs short."""
        rehearsal = copy.deepcopy(self)
        return Counter(rehearsal.deal(room, batches, lambda batch_id: batch_id))

    def _draw(self, key: UUID, queue: deque[UUID], draw: Callable[[UUID], T | None]) -> T | None:
        while queue:
            batch_id = queue.popleft()
            line = draw(batch_id)
            if line is not None:
                self._last_batch[key] = batch_id
                queue.append(batch_id)
                return line
        return None


def _from_beyond(ids: Iterable[UUID], last: UUID | None) -> list[UUID]:
    """Return the ids in order, beginning with the first after `last`."""
    ordered = sorted(ids)
    if last is None:
        return ordered
    return [i for i in ordered if i > last] + [i for i in ordered if i <= last]
