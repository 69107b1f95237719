"""Waiting for the end of a batch."""

from __future__ import annotations

from cli.batch.client import BatchService
from cli.batch.progress import Meter
from cli.batch.responses import BatchView
from cli.batch.retries import Retrying

FIRST_POLL_SECONDS = 0.5
LONGEST_POLL_SECONDS = 5.0
POLL_GROWTH = 1.5


def follow(
    service: BatchService, batch: BatchView, *, retrying: Retrying, meter: Meter
) -> BatchView:
    """Return the batch when it is final; a service that is away is waited for as well.

    Raises:
        Unfinished: the time given for everything is over.
    """
    retrying.patience_seconds = None
    pause = FIRST_POLL_SECONDS
    while not batch.is_final:
        meter.batch(batch)
        retrying.pause(pause, f"{batch.id} is still {batch.status}")
        pause = min(POLL_GROWTH * pause, LONGEST_POLL_SECONDS)
        batch = retrying.call(lambda known=batch.id: service.get(known))  # type: ignore[misc]
    meter.batch(batch)
    meter.clear()
    return batch
