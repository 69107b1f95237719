"""Work that would stop the other greenlets of this process, and waits that would never end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from gevent import Timeout, get_hub
from gevent.monkey import is_module_patched

T = TypeVar("T")


def run_blocking(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run `function` in a real thread and wait for it, where greenlets share this thread."""
    if not is_module_patched("threading"):
        return function(*args, **kwargs)
    result: T = get_hub().threadpool.apply(function, args, kwargs)
    return result


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` when a block waits longer, where greenlets share a thread."""
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
