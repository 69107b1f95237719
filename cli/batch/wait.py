"""Wait for the end of a batch."""

from __future__ import annotations

from cli.batch.client import BatchClient
from cli.batch.progress import ProgressBar
from cli.batch.responses import BatchView
from cli.batch.retries import Retrying

FIRST_POLL_SECONDS = 0.5
LONGEST_POLL_SECONDS = 5.0
POLL_GROWTH = 1.5


def wait_for_batch(
    service: BatchClient, batch: BatchView, *, retrying: Retrying, progress: ProgressBar
) -> BatchView:
    """Poll the batch until it is final, also while the service is away.

    Raises:
        Unfinished: the time limit has passed.
    """
    retrying.patience_seconds = None
    pause = FIRST_POLL_SECONDS
    while not batch.is_final:
        progress.batch(batch)
        retrying.pause(pause, f"{batch.id} is still {batch.status}")
        pause = min(POLL_GROWTH * pause, LONGEST_POLL_SECONDS)
        batch = retrying.call(lambda known=batch.id: service.get(known))  # type: ignore[misc]
    progress.batch(batch)
    progress.clear()
    return batch
