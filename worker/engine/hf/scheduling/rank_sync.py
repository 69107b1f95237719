"""Keeps the ranks of one model in step: every rank runs the same batch at every step.

The library splits the weights and sends new states and cancellations to all ranks. Only the leader
knows the requests. It decides each step and broadcasts its decision before the step runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from transformers.generation.continuous_batching.distributed import DistributedHelper


class Action(StrEnum):
    """A scheduler call that changes the cache, or may change it."""

    FITS = "fits"
    PREEMPT = "preempt"


@dataclass(frozen=True, slots=True)
class StepPlan:
    """The leader's decision for one step, by the library's ids of states.

    Attributes:
        actions: what the leader did to its cache since the step before, in order.
        candidates: the states that may share the step, in order.
    """

    actions: tuple[tuple[Action, str], ...]
    candidates: tuple[str, ...]


class RankSync:
    """This rank's link to the others. All ranks make the same sequence of calls."""

    def __init__(self, helper: DistributedHelper) -> None:
        self._helper = helper
        self._actions: list[tuple[Action, str]] = []

    @property
    def is_leader(self) -> bool:
        return bool(self._helper.is_tp_driver)

    def broadcast(self, value: Any) -> Any:
        """Return the leader's value; other ranks wait for it, and their own is ignored."""
        return self._helper.tp_broadcast_object_from_rank_0(value)

    def record(self, action: Action, library_id: str) -> None:
        """Remember an action of the leader for the other ranks to repeat."""
        self._actions.append((action, library_id))

    def take_actions(self) -> tuple[tuple[Action, str], ...]:
        """Return the actions recorded since the last call, and forget them."""
        actions, self._actions = self._actions, []
        return tuple(actions)
