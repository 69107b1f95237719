"""Isolates the errors of one piece of work from the others beside it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from types import TracebackType

from models.database.base import is_damage

_log = logging.getLogger(__name__)

FIRST_BACKOFF_SECONDS = 2.0
MAX_BACKOFF_SECONDS = 60.0


class Guard:
    """A context manager that logs, counts and suppresses an unexpected error.

    After an error the work backs off, longer each time, because its cause may be temporary. Check
    `is_backing_off` before each try.

    Args:
        name: name of the work in the log and the metric.
        about: details for the log.
        count_failure: receives the name after an error.
        expected: errors that the caller handles; see `is_expected`.
        max_backoff_seconds: longest backoff after consecutive errors.
    """

    def __init__(
        self,
        name: str,
        *,
        about: str = "",
        count_failure: Callable[[str], None] = lambda name: None,
        expected: tuple[type[Exception], ...] = (),
        max_backoff_seconds: float = MAX_BACKOFF_SECONDS,
    ) -> None:
        self._name = name
        self._about = about
        self._count_failure = count_failure
        self._expected = expected
        self._max_backoff_seconds = max_backoff_seconds
        self._backoff_seconds = 0.0
        self._backs_off_until = float("-inf")

    @property
    def is_backing_off(self) -> bool:
        return time.monotonic() < self._backs_off_until

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if error is None:
            self._backoff_seconds = 0.0
            return False
        if not isinstance(error, Exception) or is_expected(error, self._expected):
            return False
        _log.error(
            "a chore failed", exc_info=error, extra={"chore": self._name, "about": self._about}
        )
        doubled = max(FIRST_BACKOFF_SECONDS, 2 * self._backoff_seconds)
        self._backoff_seconds = min(doubled, self._max_backoff_seconds)
        self._backs_off_until = time.monotonic() + self._backoff_seconds
        self._count_failure(self._name)
        return True


def is_expected(error: Exception, kinds: tuple[type[Exception], ...]) -> bool:
    """Return whether an error is of these kinds, and no sign of damaged rows.

    The kinds are errors such as those of a database that is away. Damaged rows are never expected:
    waiting for them would block all other rows for ever.
    """
    return isinstance(error, kinds) and not is_damage(error)
