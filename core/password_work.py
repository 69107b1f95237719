"""Passwords are slow to check and take 64 MiB each: only a few at once in a process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from core.blocking import run_blocking
from core.errors import Unavailable
from core.passwords import hash_password, is_password_of

T = TypeVar("T")

AT_ONCE = 3
#: A caller whose turn has not come by then is told to come back.
WAIT_SECONDS = 10.0

_turns = threading.BoundedSemaphore(AT_ONCE)


def make_password_hash(password: str) -> str:
    """Return what is stored of a new password."""
    return _in_turn(hash_password, password)


def check_password(password_hash: str | None, password: str) -> bool:
    """Say whether it is the password of an account, or of none (`None`), in the same time."""
    return _in_turn(is_password_of, password_hash, password)


def _in_turn(work: Callable[..., T], *args: str | None) -> T:
    if not _turns.acquire(timeout=WAIT_SECONDS):
        raise Unavailable("too many sign in at this moment, try again")
    try:
        return run_blocking(work, *args)
    finally:
        _turns.release()
