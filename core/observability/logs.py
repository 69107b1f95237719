"""Writes structured logs: one JSON object per line on standard error, with the request id if known.

No prompt, completion, secret or hash is ever logged: callers pass ids. Exceptions of databases and
validators quote rows and input, so only their type and traceback are written.

Uses the standard library and not structlog: this also carries the records of the libraries, and
needs fewer lines than the glue between the two.
"""

from __future__ import annotations

import logging
import sys
import traceback
from contextvars import ContextVar
from types import TracebackType

from pythonjsonlogger.json import JsonFormatter

#: The id of the request or job that this thread or greenlet handles.
request_id: ContextVar[str] = ContextVar("request_id", default="")


#: Packages whose exceptions quote their input.
_QUOTING = frozenset({"sqlalchemy", "psycopg2", "pydantic", "pydantic_core", "json", "gunicorn"})

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class _RequestIdFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        return True


class _DiscreetFormatter(JsonFormatter):
    """Writes tracebacks without the texts of exceptions that quote rows or input."""

    def formatException(self, ei: ExcInfo) -> str:
        return "" if ei[1] is None else "\n".join(_traceback_lines(ei[1]))


def _traceback_lines(error: BaseException) -> list[str]:
    """Return the lines of a traceback, those of its causes first."""
    lines: list[str] = []
    inner: BaseException | None = error
    seen: set[int] = set()
    while inner is not None and id(inner) not in seen:
        seen.add(id(inner))
        frames = "".join(traceback.format_tb(inner.__traceback__)).rstrip()
        lines = [*filter(None, (frames, _last_line(inner))), *lines]
        inner = inner.__cause__ or (None if inner.__suppress_context__ else inner.__context__)
    return lines


def _last_line(error: BaseException) -> str:
    kind = type(error)
    if kind.__module__.split(".")[0] in _QUOTING:
        return f"{kind.__module__}.{kind.__qualname__}: (text not logged)"
    return "".join(traceback.format_exception_only(error)).rstrip()


def configure_logging(*, program: str, level: str) -> None:
    """Write every log record of this process to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_RequestIdFilter())
    handler.setFormatter(
        _DiscreetFormatter(
            "%(asctime)s %(levelname)s %(name)s %(message)s %(request_id)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            static_fields={"program": program},
            datefmt="%Y-%m-%dT%H:%M:%S%z",
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
