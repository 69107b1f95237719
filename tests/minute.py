"""The minute of the clock, with which each window of a limit begins."""

from __future__ import annotations

import time

#: What a few requests may take of their minute, on a busy machine too.
ROOM_SECONDS = 10.0


def minute() -> int:
    return int(time.time() // 60)


def wait_for_room(seconds: float = ROOM_SECONDS) -> None:
    """Wait for the next minute unless `seconds` of this one are left."""
    left = 60 - time.time() % 60
    if left < seconds:
        time.sleep(left + 0.05)
