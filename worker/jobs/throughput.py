"""How many jobs a worker ends a second when it has all that it can take."""

from __future__ import annotations

#: Half of what counts is younger than this.
HALF_LIFE_SECONDS = 30.0
#: Fewer jobs say too little: they end in waves.
MIN_JOBS = 3


class JobPace:
    """Measures how many jobs a full worker ends in a second.

    Only the time between two calls of `take` that both find the worker full counts: the rate of an
    idle worker says how many jobs came, not how many it could do.
    """

    def __init__(self) -> None:
        self._before: tuple[float, int, bool] | None = None
        self._seen = 0
        self._jobs = 0.0
        self._seconds = 0.0

    def take(self, now: float, *, ended: int, is_full: bool) -> float:
        """Return the jobs a second; 0 until some have ended while the worker was full.

        Args:
            ended: jobs since the start.
        """
        before, self._before = self._before, (now, ended, is_full)
        if before is not None and is_full and before[2] and now > before[0]:
            seconds = now - before[0]
            kept = 0.5 ** (seconds / HALF_LIFE_SECONDS)
            self._seen += ended - before[1]
            self._jobs = self._jobs * kept + ended - before[1]
            self._seconds = self._seconds * kept + seconds
        return self._jobs / self._seconds if self._seen >= MIN_JOBS else 0.0
