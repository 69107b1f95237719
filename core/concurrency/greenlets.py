"""Keeps greenlets responsive: runs blocking work in threads, bounds waits, yields in long work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from gevent import Timeout, get_hub, sleep
from gevent.monkey import is_module_patched

T = TypeVar("T")

#: How long one greenlet works before it lets the others run.
SLICE_SECONDS = 0.002


def run_blocking(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run `function` in a real thread and wait for it, if greenlets share this thread."""
    if not is_module_patched("threading"):
        return function(*args, **kwargs)
    result: T = get_hub().threadpool.apply(function, args, kwargs)
    return result


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` if the block waits longer, if greenlets share this thread."""
    if not is_module_patched("threading"):
        yield
        return
    timeout = Timeout(seconds)
    with timeout:
        try:
            yield
        except Timeout as raised:
            if raised is not timeout:
                raise
            raise TimeoutError from None


class Yielder:
    """Lets the other greenlets run from time to time during a long computation."""

    def __init__(self) -> None:
        self._is_shared = is_module_patched("threading")
        self._since = time.monotonic()

    def yield_if_due(self) -> None:
        """Yield if this greenlet has worked for `SLICE_SECONDS`; call it often."""
        if self._is_shared and time.monotonic() - self._since > SLICE_SECONDS:
            sleep(0)
            self._since = time.monotonic()
