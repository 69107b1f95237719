"""Keeps what one thing raises from all others that are done beside it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from types import TracebackType

from models.database.base import is_damage

_log = logging.getLogger(__name__)

FIRST_REST_SECONDS = 2.0
LONGEST_REST_SECONDS = 60.0


class Guard:
    """A context that logs and counts an unexpected error, and swallows it.

    After an error the thing rests, ever longer: whatever made it fail may be mended meanwhile.
    Ask `is_resting` before each try.

    Args:
        name: of the thing, as the log and the metric say it.
        about: further words for the log.
        failed: is told the name after an error.
        lets_pass: errors that are expected, and for the code around to handle; see `is_expected`.
        longest_rest_seconds: after many errors in a row.
    """

    def __init__(
        self,
        name: str,
        *,
        about: str = "",
        failed: Callable[[str], None] = lambda name: None,
        lets_pass: tuple[type[Exception], ...] = (),
        longest_rest_seconds: float = LONGEST_REST_SECONDS,
    ) -> None:
        self._name = name
        self._about = about
        self._failed = failed
        self._lets_pass = lets_pass
        self._longest_rest_seconds = longest_rest_seconds
        self._rest_seconds = 0.0
        self._rests_until = float("-inf")

    @property
    def is_resting(self) -> bool:
        return time.monotonic() < self._rests_until

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if error is None:
            self._rest_seconds = 0.0
            return False
        if not isinstance(error, Exception) or is_expected(error, self._lets_pass):
            return False
        _log.error(
            "a chore failed", exc_info=error, extra={"chore": self._name, "about": self._about}
        )
        longer = max(FIRST_REST_SECONDS, 2 * self._rest_seconds)
        self._rest_seconds = min(longer, self._longest_rest_seconds)
        self._rests_until = time.monotonic() + self._rest_seconds
        self._failed(self._name)
        return True


def is_expected(error: Exception, kinds: tuple[type[Exception], ...]) -> bool:
    """Say whether an error is of these kinds, such as those of a database that is away.

    Damaged rows are not: to wait for them would hold up all other rows for good.
    """
    return isinstance(error, kinds) and not is_damage(error)
