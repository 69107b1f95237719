"""The requests that an admission policy may order, and what it may do with them."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from transformers.generation.continuous_batching.requests import RequestState


class RequestPool(Protocol):
    """What the library's scheduler keeps of its requests, with two actions of ours.

    Attributes:
        active_requests: the running states by their id.
        waiting_requests: the states that wait for admission by their id.
        waiting_requests_order: ids of the waiting states, oldest first.
        max_requests_per_batch: states that run at once at most.
        block_new_requests: the library admits nobody until a state finishes.
    """

    active_requests: dict[str, RequestState]
    waiting_requests: dict[str, RequestState]
    waiting_requests_order: deque[str]
    max_requests_per_batch: int
    block_new_requests: bool

    def is_forking(self, state: RequestState) -> bool:
        """Return whether children of the state begin before the next step."""

    def fits(self, state: RequestState) -> bool:
        """Return whether the state could begin now."""

    def preempt(self, state: RequestState) -> None:
        """Free the state's slot; it starts again later, from its prompt and tokens so far."""
