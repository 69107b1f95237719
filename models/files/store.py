"""The storage of uploaded files, written, read and deleted in pieces.

An expired file does not exist for any caller, even before its pieces are deleted.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from models.database.arrays import is_among
from models.database.base import database_now
from models.database.locks import RowLock, lock_row
from models.database.pagination import Keyset, read_entities
from models.database.prepared import Statements
from models.files.file import File, FilePiece

PIECE_BYTES = 1024 * 1024
#: The most pieces and files that one step of `delete_expired_files` deletes.
PIECES_A_STEP = 32
FILES_A_STEP = 100

_READ_PIECE = "select data from file_pieces where file_id = %(file_id)s and place = %(place)s"


def add_file(session: Session, file: File, *, life: timedelta) -> None:
    """Add a file that expires after `life`, by the clock of the database."""
    file.created_at = database_now(session)
    file.expires_at = file.created_at + life
    session.add(file)
    session.flush()
    session.expunge(file)


def add_piece(session: Session, file_id: UUID, place: int, data: bytes) -> None:
    session.add(FilePiece(file_id=file_id, place=place, data=data))
    session.flush()
    session.expunge_all()  # otherwise the session would hold the whole file


def read_piece(statements: Statements, file_id: UUID, place: int) -> bytes | None:
    """Return a piece; `None` after the last one."""
    rows = statements.run(_READ_PIECE, {"file_id": file_id, "place": place})
    return bytes(rows[0][0]) if rows else None


def fits_file_limits(session: Session, file: File, *, most_files: int, most_bytes: int) -> bool:
    """Return whether a file written in this transaction is within the user's limits.

    The transaction then holds an advisory lock on the user's files: commit or roll back
    immediately.
    """
    lock_row(session, RowLock.FILES_OF_USER, file.user_id)
    count, size = session.execute(
        select(func.count(), func.coalesce(func.sum(File.bytes), 0)).where(
            File.user_id == file.user_id, _is_alive()
        )
    ).one()
    return bool(count <= most_files and size <= most_bytes)


def find_file(session: Session, file_id: UUID) -> File | None:
    return session.scalar(select(File).where(File.id == file_id, _is_alive()))


def list_files(
    session: Session, user_id: UUID, *, after: UUID | None, limit: int, is_newest_first: bool
) -> Keyset[File]:
    """Return a user's files in the order of their ids, after the id `after`."""
    query = select(File).where(File.user_id == user_id, _is_alive())
    return read_entities(
        session, query, File.id, after=after, limit=limit, is_descending=is_newest_first
    )


def expire_file(session: Session, file_id: UUID) -> None:
    """Let a file expire now.

    The next steps of `delete_expired_files` delete its pieces.
    """
    session.execute(
        update(File).where(File.id == file_id, _is_alive()).values(expires_at=func.now())
    )


def delete_expired_files(session: Session) -> int:
    """Delete some pieces of expired files, or else files without pieces.

    Returns the number of deleted rows. A step is small, because rows of a megabyte take time.
    """
    expired = select(File.id).where(File.expires_at <= func.now()).order_by(File.expires_at)
    pieces = session.execute(
        select(FilePiece.file_id, FilePiece.place)
        .where(is_among(FilePiece.file_id, expired.limit(FILES_A_STEP)))
        .order_by(FilePiece.file_id, FilePiece.place)
        .limit(PIECES_A_STEP)
        .with_for_update(skip_locked=True)
    ).all()
    for file_id, place in pieces:
        session.execute(
            delete(FilePiece).where(FilePiece.file_id == file_id, FilePiece.place == place)
        )
    if pieces:
        return len(pieces)
    some = expired.limit(FILES_A_STEP).with_for_update(skip_locked=True)
    gone = session.execute(delete(File).where(is_among(File.id, some)))
    return int(getattr(gone, "rowcount", 0))


def _is_alive() -> ColumnElement[bool]:
    return File.expires_at > func.now()
