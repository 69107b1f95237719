"""Parse the service's responses into values, and its errors into failures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cli.batch.exit_codes import Away, ExitCode, Failure, NotAllowed, Refused
from core.text.retry_after_header import read_retry_after

FINAL = frozenset({"completed", "cancelled", "expired"})
#: Temporary errors: the request itself may be right.
_PASSING = frozenset({408, 425, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class BatchView:
    """A batch of the service; `body` is the whole response."""

    id: str
    status: str
    total: int
    counts: Mapping[str, int]
    lines_per_second: float | None
    estimated_seconds: float | None
    body: dict[str, Any] = field(repr=False)

    @classmethod
    def read(cls, body: Any) -> BatchView:
        try:
            return cls(
                id=str(body["id"]),
                status=str(body["status"]),
                total=int(body["total"]),
                counts={str(name): int(count) for name, count in body["counts"].items()},
                lines_per_second=body.get("linesPerSecond"),
                estimated_seconds=body.get("estimatedSeconds"),
                body=body,
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise unknown_response() from None

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def ended(self) -> int:
        """Lines that have ended, with or without a result."""
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
        raise unknown_response() from None


def unknown_response() -> Failure:
    return Refused("the response is not from a BountyCoder service: check the URL")


def failure_of(status: int, headers: Mapping[str, str], data: bytes) -> Failure:
    """Return the failure that a status other than 2xx means."""
    error = _read_error(data)
    message = str((error or {}).get("message") or f"the service responded with {status}")
    if 300 <= status < 400:
        return Refused("the service's URL redirects: use the URL that it redirects to")
    if status == 407:
        return Refused("the proxy needs a user and a password: add them to its URL", error=error)
    if status in (401, 403):
        return NotAllowed(message, error=error)
    may_retry = headers.get("x-should-retry", "").lower() != "false"
    # A slot for a batch becomes free when another batch ends, at an unknown time.
    is_limit = status == 429 and (error or {}).get("code") != "too_many_batches"
    if may_retry and (status in _PASSING or is_limit):
        return Away(message, retry_after_seconds=_read_retry_after(headers), error=error)
    if status in _PASSING:
        return Away(message, may_pass=False, error=error)
    return Refused(message, error=error)


def _read_error(data: bytes) -> dict[str, Any] | None:
    """Return the error object of the API, or `None`, for example of a proxy's response."""
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
