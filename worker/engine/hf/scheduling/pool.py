"""The requests that an admission policy may order, and the actions it may take."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from transformers.generation.continuous_batching.requests import RequestState


class RequestPool(Protocol):
    """The states of the library's scheduler, and the actions of an admission policy.

    Attributes:
        active_requests: running states by id.
        waiting_requests: states that wait for admission, by id.
        waiting_requests_order: ids of the waiting states, oldest first.
        max_requests_per_batch: most states that run at once.
        block_new_requests: the library admits no state until one finishes.
    """

    active_requests: dict[str, RequestState]
    waiting_requests: dict[str, RequestState]
    waiting_requests_order: deque[str]
    max_requests_per_batch: int
    block_new_requests: bool

    def is_forking(self, state: RequestState) -> bool:
        """Return whether the library forks the state before the next step."""

    def fits(self, state: RequestState) -> bool:
        """Return whether there is a slot and room in the cache for the state."""

    def preempt(self, state: RequestState) -> None:
        """Free the state's slot; it starts again later from its prompt and tokens."""
