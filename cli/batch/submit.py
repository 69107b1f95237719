"""Sending a file of lines: whatever breaks on the way, it makes one batch and no second."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from cli.batch.client import BatchService
from cli.batch.exit_codes import Away, Failure, Refused, UsageFault
from cli.batch.progress import Meter
from cli.batch.responses import BatchView
from cli.batch.retries import Retrying

STDIN = "-"
COPY_BYTES = 1024 * 1024
#: Before more than this is sent, a small call says whether the key is taken.
LARGE_BYTES = 1024 * 1024
_LINE = re.compile(r"line (\d+)(\..*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class InputFile:
    """An open file of lines; `name` is what its faults are listed under."""

    name: str
    file: BinaryIO
    size: int


@contextmanager
def open_input(path: str) -> Iterator[InputFile]:
    """Open the file, or keep what can be read only once, standard input or a pipe, in a temporary
    one: it may have to be sent again.

    Raises:
        UsageFault: it cannot be read.
    """
    try:
        file = _spooled(sys.stdin.buffer) if path == STDIN else _open_again(path)
    except OSError as error:
        raise UsageFault(f"{path} cannot be read: {error.strerror}") from None
    with file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            raise UsageFault(f"{path} is empty")
        yield InputFile("<stdin>" if path == STDIN else path, file, size)


def submit(
    service: BatchService,
    given: InputFile,
    options: dict[str, str],
    *,
    idempotency_key: str,
    retrying: Retrying,
    meter: Meter,
) -> BatchView:
    """Return the batch that was made of the file.

    Raises:
        Refused: with a line for each fault, as compilers write them.
    """
    has_sent = False

    def sent(count: int) -> None:
        nonlocal has_sent
        has_sent = True
        meter.bytes("sending", count, given.size)

    if given.size > LARGE_BYTES:
        retrying.call(lambda: service.page(status=None, limit=1, after=None))
    try:
        return retrying.call(
            lambda: service.create(
                given.file,
                given.size,
                options,
                idempotency_key=idempotency_key,
                sent=sent,
            )
        )
    except (Away, KeyboardInterrupt):
        # The service's word that it has the batch may have been lost on its way back.
        if has_sent:
            meter.say(
                "bountycoder: it is not known whether the batch was made: the same command with "
                f"--idempotency-key={idempotency_key} makes no second one"
            )
        raise
    except Refused as refusal:
        raise _with_lines(refusal, given.name) from None
    finally:
        meter.clear()


def fault_line(name: str, field: dict[str, Any]) -> str:
    """Return a fault as `FILE:17: message`."""
    param, message = str(field.get("param") or ""), str(field.get("message") or "")
    at = _LINE.fullmatch(param)
    if at is None:
        return f"{name}: {message}"
    return f"{name}:{at[1]}: {message.removeprefix(f'line {at[1]}: ')}"


def _with_lines(refusal: Failure, name: str) -> Refused:
    fields = (refusal.error or {}).get("fields") or []
    lines = [fault_line(name, field) for field in fields if isinstance(field, dict)]
    return Refused(refusal.message, lines=lines, error=refusal.error)


def _open_again(path: str) -> BinaryIO:
    """Return the file at `path` so that it can be read again: a pipe (`<(…)`) is kept."""
    file: BinaryIO = open(path, "rb")  # noqa: SIM115 - the caller closes it
    if file.seekable():
        return file
    with file:
        return _spooled(file)


def _spooled(given: BinaryIO) -> BinaryIO:
    spool: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        shutil.copyfileobj(given, spool, COPY_BYTES)
        spool.flush()
    except BaseException:
        spool.close()
        raise
    return spool
