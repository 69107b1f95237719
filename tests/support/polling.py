"""Waiting for a condition, for tests that cannot be notified of it."""

from __future__ import annotations

import time
from collections.abc import Callable

POLL_SECONDS = 0.02


def wait_until(
    condition: Callable[[], object], seconds: float = 30.0, explain: Callable[[], object] = str
) -> None:
    """Poll until the condition holds; fail the test after `seconds`.

    Args:
        explain: returns what the failure message shows besides the time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s\n{explain()}")
        time.sleep(POLL_SECONDS)
