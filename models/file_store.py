"""Keeping uploaded files: written piece by piece, read piece by piece, forgotten in small steps.

A file that has expired does not exist for anyone, whether its pieces are gone already or not.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from models.advisory_locks import RowLock, lock_row
from models.base import database_now, is_one_of
from models.file import File, FilePiece
from models.statements import Statements

PIECE_BYTES = 1024 * 1024
#: What one step of `forget_expired` deletes.
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
    session.expunge_all()  # or the session would hold all of the file


def read_piece(statements: Statements, file_id: UUID, place: int) -> bytes | None:
    """Return a piece; `None` behind the last one."""
    rows = statements.run(_READ_PIECE, {"file_id": file_id, "place": place})
    return bytes(rows[0][0]) if rows else None


def may_keep(session: Session, file: File, *, most_files: int, most_bytes: int) -> bool:
    """Say whether the user has room for a file that this transaction has written.

    Commit at once if so, roll back if not: the user's files are locked meanwhile.
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
) -> list[File]:
    """Return a user's files from beyond the id `after`."""
    query = select(File).where(File.user_id == user_id, _is_alive())
    if after is not None:
        query = query.where(File.id < after if is_newest_first else File.id > after)
    order = File.id.desc() if is_newest_first else File.id
    return list(session.scalars(query.order_by(order).limit(limit)))


def end_file(session: Session, file_id: UUID) -> None:
    """Let a file expire now; its pieces go with the next steps of `forget_expired`."""
    session.execute(
        update(File).where(File.id == file_id, _is_alive()).values(expires_at=func.now())
    )


def forget_expired(session: Session) -> int:
    """Delete some pieces of files that have expired, and files without any; return how many.

    A step is small: rows of a megabyte each take their time.
    """
    expired = select(File.id).where(File.expires_at <= func.now()).order_by(File.expires_at)
    pieces = session.execute(
        select(FilePiece.file_id, FilePiece.place)
        .where(is_one_of(FilePiece.file_id, expired.limit(FILES_A_STEP)))
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
    gone = session.execute(delete(File).where(is_one_of(File.id, some)))
    return int(getattr(gone, "rowcount", 0))


def _is_alive() -> ColumnElement[bool]:
    return File.expires_at > func.now()
