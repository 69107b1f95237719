"""Submit a file as a batch; retries after a broken connection create no second batch."""

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

from cli.batch.client import BatchClient
from cli.batch.exit_codes import Away, Failure, Refused, UsageFault
from cli.batch.progress import ProgressBar
from cli.batch.responses import BatchView
from cli.batch.retries import Retrying

STDIN = "-"
COPY_BYTES = 1024 * 1024
#: Before sending more than this, make a small call to check the API key.
LARGE_BYTES = 1024 * 1024
_LINE = re.compile(r"line (\d+)(\..*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class InputFile:
    """An open file of lines; error messages name it by `name`."""

    name: str
    file: BinaryIO
    size: int


@contextmanager
def open_input(path: str) -> Iterator[InputFile]:
    """Open the file; copy standard input or a pipe into a temporary file.

    A retry sends the file again, so it must be readable twice.

    Raises:
        UsageFault: the file cannot be read, or is empty.
    """
    try:
        file = _spooled(sys.stdin.buffer) if path == STDIN else _open_seekable(path)
    except OSError as error:
        raise UsageFault(f"{path} cannot be read: {error.strerror}") from None
    with file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            raise UsageFault(f"{path} is empty")
        yield InputFile("<stdin>" if path == STDIN else path, file, size)


def submit(
    service: BatchClient,
    input_file: InputFile,
    options: dict[str, str],
    *,
    idempotency_key: str,
    retrying: Retrying,
    progress: ProgressBar,
) -> BatchView:
    """Create a batch from the file.

    Raises:
        Refused: the service rejected the file; `lines` has one line for each fault.
    """
    has_sent = False

    def sent(count: int) -> None:
        nonlocal has_sent
        has_sent = True
        progress.bytes("sending", count, input_file.size)

    if input_file.size > LARGE_BYTES:
        retrying.call(lambda: service.page(status=None, limit=1, after=None))
    try:
        return retrying.call(
            lambda: service.create(
                input_file.file,
                input_file.size,
                options,
                idempotency_key=idempotency_key,
                sent=sent,
            )
        )
    except (Away, KeyboardInterrupt):
        # The service may have created the batch and its response may be lost.
        if has_sent:
            progress.say(
                "bountycoder: the batch may exist already: repeat the command with "
                f"--idempotency-key={idempotency_key} to avoid a second one"
            )
        raise
    except Refused as refusal:
        raise _with_lines(refusal, input_file.name) from None
    finally:
        progress.clear()


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


def _open_seekable(path: str) -> BinaryIO:
    """Return the file at `path`; copy a pipe (`<(…)`) into a temporary file."""
    file: BinaryIO = open(path, "rb")  # noqa: SIM115 - the caller closes it
    if file.seekable():
        return file
    with file:
        return _spooled(file)


def _spooled(file: BinaryIO) -> BinaryIO:
    spool: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        shutil.copyfileobj(file, spool, COPY_BYTES)
        spool.flush()
    except BaseException:  # also Ctrl-C: the copy must not stay open
        spool.close()
        raise
    return spool
