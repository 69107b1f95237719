"""Download a batch's results: whole lines only, resumed where a connection broke.

Results come in the input's order and contain their line numbers. So a download resumes after the
last whole line. It writes to a second file and renames that when it is complete.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cli.batch.client import BatchClient
from cli.batch.exit_codes import Away, UsageFault
from cli.batch.progress import ProgressBar
from cli.batch.responses import BatchView, unknown_response
from cli.batch.retries import Retrying

COPY_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ResultSelection:
    """All results of a batch, or those with one status."""

    batch: BatchView
    status: str | None = None

    @property
    def count(self) -> int | None:
        """The number of results, or `None` if the batch is not final."""
        if not self.batch.is_final:
            return None
        return self.batch.count(self.status) if self.status else self.batch.total


class Download:
    """Write results to an open file and count the lines."""

    def __init__(
        self,
        service: BatchClient,
        selection: ResultSelection,
        *,
        retrying: Retrying,
        progress: ProgressBar,
    ) -> None:
        self.lines = 0
        self._last = b""
        self._service = service
        self._selection = selection
        self._retrying = retrying
        self._progress = progress

    def resume(self, file: BinaryIO) -> None:
        """Continue an interrupted download: cut off half a line at the end of the file."""
        whole = 0
        rest = b""
        while piece := file.read(COPY_BYTES):
            whole_part, newline, new_rest = (rest + piece).rpartition(b"\n")
            if newline:
                whole += len(whole_part) + 1
                self._note(whole_part + newline)
            rest = new_rest
        file.seek(whole)
        file.truncate()

    def write_to(self, file: BinaryIO) -> None:
        """Write all results; reconnect as long as each connection delivers lines.

        Raises:
            Away: a connection broke without delivering a line.
        """
        while True:
            before = self.lines
            try:
                self._retrying.call(lambda: self._write_some(file))
                return
            except _ConnectionLost as loss:
                if self.lines == before:
                    raise Away("the results end too soon") from None
                self._progress.say(f"{loss}: continuing after line {self._last_line()}")

    def _write_some(self, file: BinaryIO) -> None:
        before = self.lines
        try:
            self._receive(file)
        except Away as failure:
            if self.lines > before:
                raise _ConnectionLost(failure.message) from None
            raise
        count = self._selection.count
        if count is not None and self.lines < count:
            # A proxy may end a broken response as if it were complete.
            raise _ConnectionLost("the results end too soon")

    def _receive(self, file: BinaryIO) -> None:
        selection = self._selection
        with self._service.results(
            selection.batch.id, status=selection.status, after=self._last_line()
        ) as pieces:
            for lines in whole_lines(pieces):
                file.write(lines)
                self._note(lines)
                self._progress.show("results", self.lines, self._expected_lines(), "lines")

    def _expected_lines(self) -> int:
        return self._selection.count or self._selection.batch.ended or 1

    def _note(self, lines: bytes) -> None:
        self.lines += lines.count(b"\n")
        self._last = lines[lines.rfind(b"\n", 0, -1) + 1 :]

    def _last_line(self) -> int:
        """Return the input's line number of the last result written, or 0."""
        if not self._last:
            return 0
        try:
            return int(json.loads(self._last)["line"])
        except (ValueError, KeyError, TypeError):
            raise unknown_response() from None


class _ConnectionLost(Exception):
    """The connection broke after it delivered lines: reconnect at once."""


def whole_lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the chunks cut at ends of lines; drop half a line at the end."""
    rest: list[bytes] = []
    for piece in pieces:
        lines, newline, after = piece.rpartition(b"\n")
        if newline:
            yield b"".join((*rest, lines, newline))
            rest = []
        rest.append(after)


def check_target(target: Path, *, may_replace: bool) -> None:
    """Check that the file can be written later.

    Raises:
        UsageFault: the file exists, or its directory does not exist or is not writable.
    """
    if target.is_dir():
        raise UsageFault(f"{target} is a directory")
    if target.exists() and not target.is_file():
        raise UsageFault(f"{target} is not a file")
    if target.exists() and not may_replace:
        raise UsageFault(f"{target} exists: --force replaces it")
    parent = target.absolute().parent
    if not parent.is_dir():
        raise UsageFault(f"{parent} is not a directory")
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise UsageFault(f"{parent} cannot be written to: {error.strerror}") from None


def save(
    target: Path, download: Download, selection: ResultSelection, *, may_replace: bool
) -> None:
    """Write results to a file beside `target` and rename it when it is complete.

    Resumes a partial download if the batch is final. A running batch is downloaded from the
    start, because earlier lines may have finished since.
    """
    beside = _part_of(target, selection)
    if not selection.batch.is_final:
        beside.unlink(missing_ok=True)
    with open(os.open(beside, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
        download.resume(file)
        download.write_to(file)
        file.flush()
        os.fsync(file.fileno())
    check_target(target, may_replace=may_replace)
    os.replace(beside, target)


def _part_of(target: Path, selection: ResultSelection) -> Path:
    words = [selection.batch.id, selection.status, None if selection.batch.is_final else "partial"]
    return target.with_name(".".join([target.name, *(word for word in words if word), "part"]))
