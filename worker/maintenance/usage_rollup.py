"""Closes past hours and days of usage; see `models/usage/rollup_jobs.py`.

Every worker runs a roll-up. Two at once wait for each other, and the second has nothing to do.
"""

from __future__ import annotations

import logging
import time

from models.database.base import DATABASE_AWAY, SessionFactory
from models.usage.rollup_jobs import roll_up_usage

_log = logging.getLogger(__name__)

#: Pause between two passes: an hour may be closed this much later.
INTERVAL_SECONDS = 60.0
#: Most steps of one pass: after an upgrade there may be years to close.
MAX_STEPS = 10


class UsageRollup:
    def __init__(
        self, *, sessions: SessionFactory, interval_seconds: float = INTERVAL_SECONDS
    ) -> None:
        self._sessions = sessions
        self._interval_seconds = interval_seconds
        self._next_pass_at = float("-inf")

    def roll_up(self) -> None:
        """Make a pass if it is due. With the database away, leave it to the next pass."""
        if time.monotonic() < self._next_pass_at:
            return
        self._next_pass_at = time.monotonic() + self._interval_seconds
        try:
            for _ in range(MAX_STEPS):
                with self._sessions.begin() as session:
                    if not roll_up_usage(session):
                        return
            self._next_pass_at = float("-inf")  # there is more
        except DATABASE_AWAY:
            _log.warning("usage is not rolled up: the database is away")
