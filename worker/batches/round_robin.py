"""Round robin over keys, and over the batches of each key."""

from __future__ import annotations

import copy
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar
from uuid import UUID

T = TypeVar("T")


class RoundRobin:
    """Chooses lines in turn, and remembers its last choice between calls.

    Another process may start its round robin at another key: each one is fair by itself.
    """

    def __init__(self) -> None:
        self._last_key: UUID | None = None
        self._last_batch: dict[UUID, UUID] = {}

    def choose(
        self,
        room: int,
        batches: Mapping[UUID, Iterable[UUID]],
        next_line: Callable[[UUID], T | None],
    ) -> list[T]:
        """Return up to `room` lines in round-robin order.

        Args:
            batches: ids of the batches of each key.
            next_line: returns and removes the next line of a batch; `None` after the last one.
        """
        self._last_batch = {k: last for k, last in self._last_batch.items() if k in batches}
        queues = {
            key: deque(_rotated(ids, self._last_batch.get(key))) for key, ids in batches.items()
        }
        keys = deque(_rotated(queues, self._last_key))
        chosen: list[T] = []
        while keys and len(chosen) < room:
            key = keys.popleft()
            line = self._next_of(key, queues[key], next_line)
            if line is not None:  # else the key has no more lines
                self._last_key = key
                keys.append(key)
                chosen.append(line)
        return chosen

    def predict(self, room: int, batches: Mapping[UUID, Iterable[UUID]]) -> Counter[UUID]:
        """Return the lines of each batch that `choose` takes if none runs short."""
        rehearsal = copy.deepcopy(self)
        return Counter(rehearsal.choose(room, batches, lambda batch_id: batch_id))

    def _next_of(
        self, key: UUID, queue: deque[UUID], next_line: Callable[[UUID], T | None]
    ) -> T | None:
        while queue:
            batch_id = queue.popleft()
            line = next_line(batch_id)
            if line is not None:
                self._last_batch[key] = batch_id
                queue.append(batch_id)
                return line
        return None


def _rotated(ids: Iterable[UUID], last: UUID | None) -> list[UUID]:
    """Return the ids in order, starting with the first after `last`."""
    ordered = sorted(ids)
    if last is None:
        return ordered
    return [i for i in ordered if i > last] + [i for i in ordered if i <= last]
