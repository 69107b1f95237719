"""The processes that run one model together, each on its own GPU: they decide alike at every step.

The library splits the weights, and hands new states and cancellations to all. What shares a step is
decided by the leader alone, which knows the requests, and told to the others before each step.
"""

from __future__ import annotations

from typing import Any

from transformers.generation.continuous_batching.distributed import DistributedHelper

#: Something that changes the cache, and the state that it is done for.
Deed = tuple[str, str]


class Team:
    """One process's view of it. The leader's loop and the others' call `share` in turn."""

    def __init__(self, helper: DistributedHelper) -> None:
        self._helper = helper
        self._deeds: list[Deed] = []

    @property
    def is_leader(self) -> bool:
        return bool(self._helper.is_tp_driver)

    def share(self, decided: Any) -> Any:
        """Return what the leader gave; the others wait for it, and what they give is ignored."""
        return self._helper.tp_broadcast_object_from_rank_0(decided)

    def note(self, deed: str, library_id: str) -> None:
        """Remember something that the others have to do as well."""
        self._deeds.append((deed, library_id))

    def take_deeds(self) -> list[Deed]:
        """Take what was noted since the last step."""
        deeds, self._deeds = self._deeds, []
        return deeds
