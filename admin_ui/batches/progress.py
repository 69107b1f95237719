"""Progress of a batch, for its pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from admin_ui.web.page import present_time
from models.batches.batch import Batch
from models.batches.serializer import serialize_batch

#: Tone of each state of a line, in the order of the progress bar.
TONES = {
    "succeeded": "good",
    "failed": "bad",
    "expired": "warning",
    "cancelled": "warning",
    "running": "accent",
}


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """A batch, and the same batch as the API returns it.

    Attributes:
        body: JSON body of the API.
    """

    batch: Batch
    body: Mapping[str, Any]

    @classmethod
    def of(cls, batch: Batch, running: int) -> BatchProgress:
        return cls(batch, serialize_batch(batch, running=running, now=present_time()))

    @property
    def counts(self) -> Mapping[str, int]:
        counts: Mapping[str, int] = self.body["counts"]
        return counts

    @property
    def share(self) -> float:
        """The share of lines that have ended, from 0 to 1."""
        return self.batch.ended / self.batch.total

    @property
    def estimated_ms(self) -> float | None:
        seconds = self.body["estimatedSeconds"]
        return None if seconds is None else seconds * 1000

    def segments(self) -> Iterator[tuple[str, float, float]]:
        """Yield tone, start and width of each segment of the bar, which is 1000 wide."""
        start = 0.0
        for state, tone in TONES.items():
            width = self.counts[state] / self.batch.total * 1000
            if width:
                yield tone, round(start, 1), round(width, 1)
            start += width
