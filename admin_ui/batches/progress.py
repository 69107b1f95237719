"""How far a batch is, as its pages show it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from admin_ui.web.page import present_time
from models.batches.batch import Batch
from models.batches.serializer import show_batch

#: The states of lines in the order of the bar, and their tones.
TONES = {
    "succeeded": "good",
    "failed": "bad",
    "expired": "warning",
    "cancelled": "warning",
    "running": "accent",
}


@dataclass(frozen=True, slots=True)
class Progress:
    """A batch with what the API says of it."""

    batch: Batch
    shown: Mapping[str, Any]

    @classmethod
    def of(cls, batch: Batch, running: int) -> Progress:
        return cls(batch, show_batch(batch, running=running, now=present_time()))

    @property
    def counts(self) -> Mapping[str, int]:
        counts: Mapping[str, int] = self.shown["counts"]
        return counts

    @property
    def share(self) -> float:
        """What has ended, of 1."""
        return self.batch.ended / self.batch.total

    @property
    def estimated_ms(self) -> float | None:
        seconds = self.shown["estimatedSeconds"]
        return None if seconds is None else seconds * 1000

    def pieces(self) -> Iterator[tuple[str, float, float]]:
        """Give the tone, the begin and the width of each piece of the bar, of 1000."""
        begin = 0.0
        for state, tone in TONES.items():
            width = self.counts[state] / self.batch.total * 1000
            if width:
                yield tone, round(begin, 1), round(width, 1)
            begin += width
