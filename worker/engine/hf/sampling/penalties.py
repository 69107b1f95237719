"""Penalties on repeated tokens, from counts of each sequence's tokens on the device.

Each row of the table belongs to a sequence; row 0 takes the counts of rows without one. A step
counts its input tokens, that is, the tokens that the step before drew. So the host does not need to
know a token for it to be counted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class PenaltyArgs:
    """The penalties of each row of scores; every tensor has the shape (rows,).

    Attributes:
        slot: row of the table.
        is_generated: 1 if the input token was generated, 0 if it is part of the prompt.
    """

    slot: torch.Tensor
    is_generated: torch.Tensor
    repetition: torch.Tensor
    presence: torch.Tensor
    frequency: torch.Tensor


class PenaltyTable:
    """Counts of generated tokens and marks of prompt tokens, one row for each sequence.

    Both tensors have the shape (slots + 1, vocabulary).
    """

    def __init__(self, *, slots: int, vocab_size: int, device: torch.device) -> None:
        self._counts = torch.zeros(slots + 1, vocab_size, dtype=torch.int32, device=device)
        self._in_prompt = torch.zeros(slots + 1, vocab_size, dtype=torch.bool, device=device)
        self._slot_of: dict[str, int] = {}
        self._free = list(range(slots, 0, -1))

    def slot(
        self,
        library_id: str,
        *,
        prompt: Sequence[int],
        generated: Sequence[int],
        is_fresh: bool,
        in_batch: Collection[str],
    ) -> int:
        """Return the sequence's row of the table; fill the row if it is new or `is_fresh`.

        Args:
            generated: tokens generated before the input token of the next step.
            is_fresh: the state started or restarted, so its row is out of date.
            in_batch: library ids whose rows must not be taken.
        """
        slot = self._slot_of.get(library_id)
        if slot is None:
            slot = self._free.pop() if self._free else self._evict(in_batch)
            self._slot_of[library_id] = slot
        elif not is_fresh:
            return slot
        size = self._counts.shape[1]
        device = self._counts.device
        self._counts[slot] = _count(generated, size).to(device)
        self._in_prompt[slot] = _count(prompt, size).to(device) > 0
        return slot

    def release(self, library_ids: Collection[str]) -> None:
        """Free the rows of ended sequences."""
        for library_id in library_ids:
            if (slot := self._slot_of.pop(library_id, None)) is not None:
                self._free.append(slot)

    def owners(self) -> list[str]:
        """Return the library ids that have a row."""
        return list(self._slot_of)

    def apply(
        self, scores: torch.Tensor, input_ids: torch.Tensor, args: PenaltyArgs
    ) -> torch.Tensor:
        """Count the input tokens and return the scores with their penalties.

        Args:
            scores: logits of shape (rows, vocabulary).
            input_ids: input tokens of the step, shape (rows,).

        Returns:
            Logits of shape (rows, vocabulary).
        """
        slots = args.slot.long()
        self._counts.index_put_((slots, input_ids.long()), args.is_generated.int(), accumulate=True)
        counts = self._counts[slots]
        is_seen = (counts > 0) | self._in_prompt[slots]
        repetition = args.repetition[:, None]
        damped = torch.where(scores < 0, scores * repetition, scores / repetition)
        scores = torch.where(is_seen, damped, scores)
        scores = scores - args.presence[:, None] * (counts > 0)
        return scores - args.frequency[:, None] * counts

    def _evict(self, in_batch: Collection[str]) -> int:
        """Take the row of a sequence outside the batch; it gets a new row when it returns."""
        idle = next(owner for owner in self._slot_of if owner not in in_batch)
        return self._slot_of.pop(idle)


def _count(tokens: Sequence[int], size: int) -> torch.Tensor:
    """Return how often each token id occurs, shape (size,)."""
    ids = torch.tensor(list(tokens), dtype=torch.long)
    return torch.bincount(ids, minlength=size).int()
