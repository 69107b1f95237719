"""Scale the number of workers by load: add up to two at a time, remove one at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cloud.load import ServiceLoad, Thresholds
from cloud.provider import CloudWorker, Life, Provider
from cloud.rest import CloudError

log = logging.getLogger(__name__)

#: A worker takes minutes to load its model: wait for it before adding more.
UP_STEP = 2
UP_SECONDS = 180.0
#: One worker leaves after this time in which no value exceeded DOWN_RATIO of its threshold.
DOWN_SECONDS = 900.0
DOWN_RATIO = 0.5


@dataclass(slots=True)
class Scaler:
    """Compare load and workers once a round, and rent or return workers.

    State lives in memory only: a new scaler starts with a quiet time of zero. While the load is
    unknown, the number of workers stays as it is, but at least `least`.
    """

    provider: Provider
    load: Callable[[], ServiceLoad]
    least: int
    most: int
    limit: Thresholds = field(default_factory=Thresholds)
    clock: Callable[[], float] = time.monotonic
    _more_at: float | None = None
    _quiet_since: float | None = None

    def round(self) -> None:
        """Run one round.

        Raises:
            CloudError: a call to the provider failed; the next round retries.
        """
        workers = self.provider.list()
        for worker in workers:
            if worker.life is Life.FAILED:
                log.warning("returning %s, which is %s", worker.name, worker.state)
                self.provider.end(worker)
        alive = [worker for worker in workers if worker.life is Life.ALIVE]
        change = self._change(len(alive))
        for _ in range(change):
            log.info("rented %s", self.provider.create())
        if change < 0:
            self._drain_and_end(alive[-1])

    def _change(self, count: int) -> int:
        """Return the number of workers to add, or -1 to remove one."""
        if count < self.least:
            return self.least - count
        try:
            used = self.load().over(self.limit)
        except CloudError as error:
            log.warning("%s", error)
            self._quiet_since = None
            return 0
        now = self.clock()
        if used > DOWN_RATIO:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = now
        if used > 1 and (self._more_at is None or now - self._more_at >= UP_SECONDS):
            self._more_at = now
            return max(0, min(UP_STEP, self.most - count))
        quiet = 0.0 if self._quiet_since is None else now - self._quiet_since
        if count > self.least and (count > self.most or quiet >= DOWN_SECONDS):
            self._quiet_since = None
            return -1
        return 0

    def _drain_and_end(self, worker: CloudWorker) -> None:
        log.info("draining %s", worker.name)
        drain_and_end(self.provider, worker)


def drain_and_end(provider: Provider, worker: CloudWorker) -> None:
    """Let a worker finish and return it. Its unfinished jobs run on other workers."""
    try:
        provider.drain(worker)
    except CloudError as error:
        log.warning("%s: returning it without a drain; its jobs run on other workers", error)
    provider.end(worker)
