"""Fetching a batch's results: whole lines only, gone on with where a connection broke.

Results come in the input's order, and each says its line, so that a download goes on behind the
last line that arrived whole. They are written beside the file and renamed when all are there.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cli.batch.client import BatchService
from cli.batch.exit_codes import Away, UsageFault
from cli.batch.progress import Meter
from cli.batch.responses import BatchView, not_ours
from cli.batch.retries import Retrying

COPY_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which results: of one batch, perhaps only those with a status.

    Attributes:
        count: how many there are, if the batch is final.
    """

    batch: BatchView
    status: str | None = None

    @property
    def count(self) -> int | None:
        if not self.batch.is_final:
            return None
        return self.batch.count(self.status) if self.status else self.batch.total


class Download:
    """Writes results to an open file, and knows how far it is."""

    def __init__(
        self, service: BatchService, wanted: Wanted, *, retrying: Retrying, meter: Meter
    ) -> None:
        self.lines = 0
        self._last = b""
        self._service = service
        self._wanted = wanted
        self._retrying = retrying
        self._meter = meter

    def resume(self, file: BinaryIO) -> None:
        """Go on behind what an interrupted download has written; half a line is cut off."""
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
        """Write all results, however often the connection breaks, as long as lines arrive.

        Raises:
            Away: it cannot be gone on with.
        """
        while True:
            before = self.lines
            try:
                self._retrying.call(lambda: self._write_some(file))
                return
            except _Cut as cut:
                if self.lines == before:
                    raise Away("the results end too soon") from None
                self._meter.say(f"{cut}: going on behind line {self._last_line()}")

    def _write_some(self, file: BinaryIO) -> None:
        before = self.lines
        try:
            self._receive(file)
        except Away as failure:
            if self.lines > before:
                raise _Cut(failure.message) from None
            raise
        count = self._wanted.count
        if count is not None and self.lines < count:
            # A server before the service may end a broken answer as if it were whole.
            raise _Cut("the results end too soon")

    def _receive(self, file: BinaryIO) -> None:
        wanted = self._wanted
        with self._service.results(
            wanted.batch.id, status=wanted.status, after=self._last_line()
        ) as pieces:
            for lines in whole_lines(pieces):
                file.write(lines)
                self._note(lines)
                self._meter.show("results", self.lines, self._wanted_lines(), "lines")

    def _wanted_lines(self) -> int:
        return self._wanted.count or self._wanted.batch.ended or 1

    def _note(self, lines: bytes) -> None:
        self.lines += lines.count(b"\n")
        self._last = lines[lines.rfind(b"\n", 0, -1) + 1 :]

    def _last_line(self) -> int:
        """Return the number, in the input, of the last line that is written."""
        if not self._last:
            return 0
        try:
            return int(json.loads(self._last)["line"])
        except (ValueError, KeyError, TypeError):
            raise not_ours() from None


class _Cut(Exception):
    """The connection broke after lines had come: ask again at once."""


def whole_lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Give the pieces again, each ending with the end of a line; half a line at the end is lost."""
    rest: list[bytes] = []
    for piece in pieces:
        lines, newline, after = piece.rpartition(b"\n")
        if newline:
            yield b"".join((*rest, lines, newline))
            rest = []
        rest.append(after)


def check_target(target: Path, *, may_replace: bool) -> None:
    """Refuse a file that cannot be written later.

    Raises:
        UsageFault: it exists, or its directory does not or takes no file.
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


def save(target: Path, download: Download, wanted: Wanted, *, may_replace: bool) -> None:
    """Write results beside `target` and rename them when all are there.

    What an earlier download of the same final batch left is gone on with. Results of a batch that
    runs are not: lines before the last one may have ended since.
    """
    beside = _part_of(target, wanted)
    if not wanted.batch.is_final:
        beside.unlink(missing_ok=True)
    with open(os.open(beside, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
        download.resume(file)
        download.write_to(file)
        file.flush()
        os.fsync(file.fileno())
    check_target(target, may_replace=may_replace)
    os.replace(beside, target)


def _part_of(target: Path, wanted: Wanted) -> Path:
    words = [wanted.batch.id, wanted.status, None if wanted.batch.is_final else "partial"]
    return target.with_name(".".join([target.name, *(word for word in words if word), "part"]))
