"""How the command ends: its exit codes, and the failures that carry one."""

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
    #: What a shell gives for a program that SIGPIPE ended.
    PIPE_CLOSED = 141


#: Shown by `--help`; docs/batch-command.md has them too.
MEANINGS = {
    ExitCode.OK: "done; where a batch was looked at: completed, all lines succeeded",
    ExitCode.SOME_FAILED: "the batch is finished, but lines failed, expired or were cancelled",
    ExitCode.USAGE: "wrong use, or a file of yours that cannot be read or written",
    ExitCode.REFUSED: "the service refused the file or the request",
    ExitCode.AUTH: "the service does not accept the key",
    ExitCode.AWAY: "the service is away or too slow",
    ExitCode.UNFINISHED: "the batch is not finished yet",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C",
    ExitCode.PIPE_CLOSED: "whoever read the output has gone",
}


class Failure(BountyError):
    """Ends the command.

    Attributes:
        lines: what is shown besides the message: one for each fault.
        error: what the service answered, in the contract's shape, if it did.
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
        """Return the failure in the contract's shape for errors."""
        return {"error": self.error or {"code": self.code, "message": self.message}}


class UsageFault(Failure):
    exit_code = ExitCode.USAGE
    code = "usage"


class Refused(Failure):
    """The service does not do what was asked, and would not the next time."""


class NotAllowed(Failure):
    exit_code = ExitCode.AUTH
    code = "not_allowed"


class Away(Failure):
    """The service cannot be reached, or asks to come back later.

    Attributes:
        retry_after_seconds: when it wants to be asked again, if it said so.
        may_pass: whether asking again can help.
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
