"""Runs processor-bound work without stopping the other greenlets of this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from gevent import get_hub
from gevent.monkey import is_module_patched

T = TypeVar("T")


def run_blocking(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run `function` in a real thread and wait for it, where greenlets share this thread."""
    if not is_module_patched("threading"):
        return function(*args, **kwargs)
    result: T = get_hub().threadpool.apply(function, args, kwargs)
    return result
