"""The exit codes of `bountycoder batch`, and the failures that carry one."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

from core.errors import BountyError


class ExitCode(IntEnum):
    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    REFUSED = 3
    AUTH = 4
    AWAY = 5
    UNFINISHED = 6
    INTERRUPTED = 130
    #: The exit code that a shell reports for a program that SIGPIPE ended.
    PIPE_CLOSED = 141


#: Printed by `--help`; docs/batch-command.md repeats them.
MEANINGS = {
    ExitCode.OK: "done; of a finished batch: all lines succeeded",
    ExitCode.SOME_FAILED: "the batch is finished, but lines failed, expired or were cancelled",
    ExitCode.USAGE: "wrong arguments, or a local file that cannot be read or written",
    ExitCode.REFUSED: "the service refused the file or the request",
    ExitCode.AUTH: "the service does not accept the key",
    ExitCode.AWAY: "the service is away or too slow",
    ExitCode.UNFINISHED: "the batch is not finished yet",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C",
    ExitCode.PIPE_CLOSED: "the reader of the output has closed it",
}


class Failure(BountyError):
    """Ends the command.

    Attributes:
        lines: printed before the message, one for each fault.
        error: the service's error object, if it sent one.
    """

    exit_code = ExitCode.REFUSED
    code = "refused"

    def __init__(
        self, message: str, *, lines: Sequence[str] = (), error: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.lines = tuple(lines)
        self.error = error

    def body(self) -> dict[str, Any]:
        """Return the failure as an error body of the API."""
        return {"error": self.error or {"code": self.code, "message": self.message}}


class UsageFault(Failure):
    exit_code = ExitCode.USAGE
    code = "usage"


class Refused(Failure):
    """The service refused the request; a retry would fail too."""


class NotAllowed(Failure):
    exit_code = ExitCode.AUTH
    code = "not_allowed"


class Away(Failure):
    """The service cannot be reached, or asks for a later retry.

    Attributes:
        retry_after_seconds: the pause that the service asks for, if any.
        may_pass: whether a retry can succeed.
    """

    exit_code = ExitCode.AWAY
    code = "service_away"

    def __init__(
        self,
        message: str,
        *,
        retry_after_seconds: float | None = None,
        may_pass: bool = True,
        error: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, error=error)
        self.retry_after_seconds = retry_after_seconds
        self.may_pass = may_pass


class Unfinished(Failure):
    exit_code = ExitCode.UNFINISHED
    code = "not_finished"
