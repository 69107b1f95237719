"""Measures the jobs a second that a worker ends under full load."""

from __future__ import annotations

#: Half of the weight belongs to measurements younger than this.
HALF_LIFE_SECONDS = 30.0
#: Fewer jobs are too few to measure: jobs end in waves.
MIN_JOBS = 3


class JobThroughput:
    """Measures the jobs a second that a full worker ends.

    Counts only the time between two calls of `measure` that both find the worker full. The rate of
    an idle worker shows how many jobs arrived, not how many it could run.
    """

    def __init__(self) -> None:
        self._before: tuple[float, int, bool] | None = None
        self._counted = 0
        self._jobs = 0.0
        self._seconds = 0.0

    def measure(self, now: float, *, ended: int, is_full: bool) -> float:
        """Return jobs a second; 0 until `MIN_JOBS` have ended while the worker was full.

        Args:
            now: seconds by the monotonic clock.
            ended: jobs since the start.
        """
        before, self._before = self._before, (now, ended, is_full)
        if before is not None and is_full and before[2] and now > before[0]:
            seconds = now - before[0]
            decay = 0.5 ** (seconds / HALF_LIFE_SECONDS)
            self._counted += ended - before[1]
            self._jobs = self._jobs * decay + ended - before[1]
            self._seconds = self._seconds * decay + seconds
        return self._jobs / self._seconds if self._counted >= MIN_JOBS else 0.0
