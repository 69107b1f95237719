"""Stores uploaded files in the database and reads them, a piece at a time."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain
from typing import IO
from uuid import UUID

from api.services import Services
from core.concurrency.greenlets import Yielder
from core.errors import Conflict, NotFound
from models.batches.lines import begin_writing
from models.database.base import Session
from models.files.file import File
from models.files.store import (
    PIECE_BYTES,
    add_file,
    add_piece,
    find_file,
    fits_file_limits,
    read_piece,
)


def store_file(services: Services, file: File, data: IO[bytes], *, life: timedelta) -> None:
    """Commit a file that expires after `life`, piece by piece in one transaction.

    Raises:
        Conflict: the user has too many files.
    """
    settings = services.settings
    yielder = Yielder()
    with services.database.batch_sessions.begin() as session:
        begin_writing(session)
        add_file(session, file, life=life)
        for position, piece in enumerate(iter(lambda: data.read(PIECE_BYTES), b"")):
            yielder.yield_if_due()
            add_piece(session, file.id, position, piece)
        has_room = fits_file_limits(
            session,
            file,
            most_files=settings.max_files_per_user,
            most_bytes=settings.max_file_bytes_per_user,
        )
        if not has_room:
            raise Conflict(
                f"you may have {settings.max_files_per_user} files with "
                f"{settings.max_file_bytes_per_user} bytes together: delete some",
                code="too_many_files",
                headers={"x-should-retry": "false"},
            )


def find_own_file(session: Session, user_id: UUID, file_id: UUID | None) -> File:
    """Return a user's uploaded file.

    Raises:
        NotFound: the user has no such file, or `file_id` is `None`.
    """
    file = find_file(session, file_id) if file_id else None
    if file is None or file.user_id != user_id:
        raise NotFound("there is no such file", param="input_file_id")
    return file


@contextmanager
def open_stored_file(services: Services, file: File) -> Iterator[IO[bytes]]:
    """Copy a file to disk and open it while the block runs.

    Raises:
        NotFound: the file was deleted while it was copied.
    """
    with tempfile.TemporaryFile() as copy:
        for data in _pieces(services, file):
            copy.write(data)
        if copy.tell() < file.bytes:
            raise _gone()
        copy.seek(0)
        yield copy


def stream_file(services: Services, file: File) -> Iterator[bytes]:
    """Return the bytes of a file; the connection breaks if the file is deleted on the way.

    Raises:
        NotFound: the file was deleted before its first piece was read.
    """
    pieces = _pieces(services, file)
    first = next(pieces, None)
    if first is None:
        raise _gone()
    return _whole(chain([first], pieces), file.bytes)


def _pieces(services: Services, file: File) -> Iterator[bytes]:
    """Yield the pieces of a file up to the first missing one, each by a separate short read."""
    for position in range(-(-file.bytes // PIECE_BYTES)):
        data = read_piece(services.database.statements, file.id, position)
        if data is None:
            return
        yield data


def _whole(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    for piece in pieces:
        size -= len(piece)
        yield piece
    if size:
        raise ConnectionResetError(errno.ECONNRESET, "the file was deleted while it was being sent")


def _gone() -> NotFound:
    return NotFound("the file was deleted")
