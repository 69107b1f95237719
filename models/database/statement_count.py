"""The number of database statements of a request, and the time that they take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, event


@dataclass(slots=True)
class StatementCount:
    """The statements of one request so far, and their time."""

    statements: int = 0
    seconds: float = 0.0


_present: ContextVar[StatementCount | None] = ContextVar("statement_count", default=None)


def count_statements(engine: Engine) -> Engine:
    """Let `counting_statements` count the statements of an engine; return it."""
    event.listen(engine, "before_cursor_execute", _begin)
    event.listen(engine, "after_cursor_execute", _end)
    return engine


@contextmanager
def counting_statements() -> Iterator[StatementCount]:
    """Count the statements of this thread or greenlet inside the block."""
    count = StatementCount()
    token = _present.set(count)
    try:
        yield count
    finally:
        _present.reset(token)


def _begin(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
    connection.info["statement_began"] = time.monotonic()


def _end(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
    if (count := _present.get()) is not None:
        count.statements += 1
        count.seconds += time.monotonic() - connection.info["statement_began"]
