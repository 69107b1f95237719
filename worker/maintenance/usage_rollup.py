"""Closes hours and days of usage that are over, see `models/usage/rollup_jobs.py`.

Every worker runs one; two at once wait for each other, and the second finds nothing to do.
"""

from __future__ import annotations

import logging
import time

from models.database.base import DATABASE_AWAY, SessionFactory
from models.usage.rollup_jobs import close_usage

_log = logging.getLogger(__name__)

#: Between two looks: an hour may be closed this much later.
INTERVAL_SECONDS = 60.0
#: Steps of one pass: after an upgrade there may be years to close.
MOST_STEPS = 10


class UsageCloser:
    def __init__(
        self, *, sessions: SessionFactory, interval_seconds: float = INTERVAL_SECONDS
    ) -> None:
        self._sessions = sessions
        self._interval_seconds = interval_seconds
        self._next_look = float("-inf")

    def close(self) -> None:
        """Make a pass if it is time. With the database away the next one will."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + self._interval_seconds
        try:
            for _ in range(MOST_STEPS):
                with self._sessions.begin() as session:
                    if not close_usage(session):
                        return
            self._next_look = float("-inf")  # there is more
        except DATABASE_AWAY:
            _log.warning("no usage closed: the database is away")
