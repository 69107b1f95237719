"""What the service answers, as values; an error of the service as a failure of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cli.batch.exit_codes import Away, ExitCode, Failure, NotAllowed, Refused
from core.web.retry_after import read_retry_after

FINAL = frozenset({"completed", "cancelled", "expired"})
#: Statuses that say nothing against the request itself.
_PASSING = frozenset({408, 425, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class BatchView:
    """A batch as the service shows it; `shown` is all of it."""

    id: str
    status: str
    total: int
    counts: Mapping[str, int]
    lines_per_second: float | None
    estimated_seconds: float | None
    shown: dict[str, Any] = field(repr=False)

    @classmethod
    def read(cls, shown: Any) -> BatchView:
        try:
            return cls(
                id=str(shown["id"]),
                status=str(shown["status"]),
                total=int(shown["total"]),
                counts={str(name): int(count) for name, count in shown["counts"].items()},
                lines_per_second=shown.get("linesPerSecond"),
                estimated_seconds=shown.get("estimatedSeconds"),
                shown=shown,
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise not_ours() from None

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def ended(self) -> int:
        """Lines that have ended, however."""
        return self.count("succeeded") + self.lost

    @property
    def lost(self) -> int:
        """Lines that ended without a result."""
        return sum(self.count(name) for name in ("failed", "cancelled", "expired"))

    @property
    def exit_code(self) -> ExitCode:
        if not self.is_final:
            return ExitCode.UNFINISHED
        is_whole = self.status == "completed" and self.count("succeeded") == self.total
        return ExitCode.OK if is_whole else ExitCode.SOME_FAILED

    def count(self, name: str) -> int:
        return self.counts.get(name, 0)


def read_json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        raise not_ours() from None


def not_ours() -> Failure:
    return Refused("the answer is not that of a BountyCoder service: is the URL right?")


def failure_of(status: int, headers: Mapping[str, str], data: bytes) -> Failure:
    """Return what a status other than 2xx means for the command."""
    error = _read_error(data)
    message = str((error or {}).get("message") or f"the service answered {status}")
    if 300 <= status < 400:
        return Refused("the service's URL leads elsewhere, and redirects are not followed")
    if status == 407:
        return Refused("the proxy wants a user and a password: put them into its URL", error=error)
    if status in (401, 403):
        return NotAllowed(message, error=error)
    again = headers.get("x-should-retry", "").lower() != "false"
    # The places of a key's batches are free when a batch has ended: nobody knows when.
    is_limit = status == 429 and (error or {}).get("code") != "too_many_batches"
    if again and (status in _PASSING or is_limit):
        return Away(message, retry_after_seconds=_read_retry_after(headers), error=error)
    if status in _PASSING:
        return Away(message, may_pass=False, error=error)
    return Refused(message, error=error)


def _read_error(data: bytes) -> dict[str, Any] | None:
    """Return the error in the contract's shape; a proxy before the service has none."""
    try:
        error = json.loads(data)["error"]
    except (ValueError, KeyError, TypeError):
        return None
    return error if isinstance(error, dict) else None


def _read_retry_after(headers: Mapping[str, str]) -> float | None:
    milliseconds = headers.get("retry-after-ms", "")
    if milliseconds.isascii() and milliseconds.isdigit():
        return float(milliseconds) / 1000
    return read_retry_after(headers.get("retry-after", ""))
