"""The minute of the clock, with which each window of a rate limit begins."""

from __future__ import annotations

import time

#: Seconds of one minute that a few requests need, also on a busy machine.
ROOM_SECONDS = 10.0


def minute() -> int:
    """Return the number of the present minute."""
    return int(time.time() // 60)


def wait_for_room(seconds: float = ROOM_SECONDS) -> None:
    """Wait for the next minute unless `seconds` of the present one are left."""
    left = 60 - time.time() % 60
    if left < seconds:
        time.sleep(left + 0.05)
