"""As many workers as the work needs: two at a time more, one at a time less."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cloud.load import BusyAt, ServiceLoad
from cloud.provider import CloudWorker, Life, Provider
from cloud.rest import CloudError

log = logging.getLogger(__name__)

#: A worker takes minutes to load its model: it is not helped by four more.
UP_STEP = 2
UP_SECONDS = 180.0
#: One leaves after a quarter of an hour in which no limit was used by half.
DOWN_SECONDS = 900.0
DOWN_RATIO = 0.5


@dataclass(slots=True)
class Scaler:
    """Looks and acts, once a round. Nothing is kept: a new one begins with a quiet time of zero.

    While nobody knows how busy the service is, there are as many workers as there were, and at
    least `least`.
    """

    provider: Provider
    load: Callable[[], ServiceLoad]
    least: int
    most: int
    limit: BusyAt = field(default_factory=BusyAt)
    clock: Callable[[], float] = time.monotonic
    _more_at: float | None = None
    _quiet_since: float | None = None

    def round(self) -> None:
        """Look once, and create or end what is to be.

        Raises:
            CloudError: the provider does not do it; the next round tries again.
        """
        workers = self.provider.list()
        for worker in workers:
            if worker.life is Life.FAILED:
                log.warning("%s is %s and is given back", worker.name, worker.state)
                self.provider.end(worker)
        alive = [worker for worker in workers if worker.life is Life.ALIVE]
        change = self._change(len(alive))
        for _ in range(change):
            log.info("rented %s", self.provider.create())
        if change < 0:
            self._leave(alive[-1])

    def _change(self, count: int) -> int:
        """Return how many workers to add, or -1 for one less."""
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

    def _leave(self, worker: CloudWorker) -> None:
        log.info("%s leaves", worker.name)
        leave(self.provider, worker)


def leave(provider: Provider, worker: CloudWorker) -> None:
    """Let a worker finish and give it back. What it could not finish runs elsewhere soon."""
    try:
        provider.drain(worker)
    except CloudError as error:
        log.warning("%s: it is given back as it is, its jobs run elsewhere", error)
    provider.end(worker)
