"""Waits of greenlets for PostgreSQL, with a time-out.

psycopg2 passes each wait to one function of the process (its "wait callback"). The system of a
server may acknowledge packets although the server never responds. Only the time-out of the callback
notices this: libpq's time-out does not run during the callback, and the server itself enforces the
time-out of statements.
"""

from __future__ import annotations

import time
from typing import Any

import psycopg2
from gevent.socket import wait_read, wait_write
from psycopg2.extensions import POLL_OK, POLL_READ, POLL_WRITE, set_wait_callback


def wait_in_greenlets(seconds: float) -> None:
    """Let other greenlets run while one waits for the database.

    This applies to all connections of the process.

    Args:
        seconds: the longest wait, which must be longer than a statement may take.
    """

    def wait(connection: Any) -> None:
        deadline = time.monotonic() + seconds
        while (state := connection.poll()) != POLL_OK:
            try:
                _wait_once(connection, state, deadline - time.monotonic())
            except TimeoutError:
                raise psycopg2.OperationalError("the database does not answer") from None

    set_wait_callback(wait)


def _wait_once(connection: Any, state: int, seconds: float) -> None:
    if seconds <= 0:
        raise TimeoutError
    if state == POLL_READ:
        wait_read(connection.fileno(), timeout=seconds)
    elif state == POLL_WRITE:
        wait_write(connection.fileno(), timeout=seconds)
    else:
        raise psycopg2.OperationalError(f"psycopg2 is in the unknown state {state}")
