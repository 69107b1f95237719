"""Uploaded files in the database: their bounds, and their expiry."""

from __future__ import annotations

import threading
from datetime import timedelta

from sqlalchemy import func, select

from core.ids import new_id
from models.accounts.api_key import ApiKey
from models.batches.rejected import (
    MAX_OF_USER,
    RejectedBatch,
    add_rejected_batch,
    delete_expired_rejections,
    list_rejected_batches,
)
from models.database.base import Session, SessionFactory
from models.files.file import File, FilePiece
from models.files.store import (
    PIECES_A_STEP,
    delete_expired_files,
    expire_file,
    find_file,
    fits_file_limits,
    list_files,
)
from tests.support.factories.rows import add_file, add_key


def add_rejected(session: Session, key: ApiKey, *, days: float = 1) -> RejectedBatch:
    batch = RejectedBatch(
        user_id=key.user_id,
        api_key_id=key.id,
        endpoint="/v1/completions",
        model="a-model",
        input_file_id=new_id(),
        errors=[],
    )
    add_rejected_batch(session, batch, life=timedelta(days=days))
    return batch


def has_room(session: Session, file: File, *, files: int = 100, size: int = 1000) -> bool:
    return fits_file_limits(session, file, most_files=files, most_bytes=size)


def test_files_and_bytes_of_a_user_are_bounded(database: SessionFactory) -> None:
    with database.begin() as session:
        key, other = add_key(session), add_key(session)
        add_file(session, other, size=10_000)
        ended = add_file(session, key, size=10_000)
        expire_file(session, ended.id)
        add_file(session, key, size=40)
        file = add_file(session, key, size=40)

        assert has_room(session, file, files=2, size=80)
        assert not has_room(session, file, files=1)
        assert not has_room(session, file, size=79)


def test_concurrent_uploads_do_not_exceed_the_bound(database: SessionFactory) -> None:
    with database.begin() as session:
        key = add_key(session)
    admitted: list[bool] = []
    waits = threading.Event()

    def upload() -> None:
        with database() as session:
            file = add_file(session, key)
            waits.set()
            admitted.append(has_room(session, file, files=1))
            session.commit() if admitted[-1] else session.rollback()

    with database() as session:
        first = add_file(session, key)
        assert has_room(session, first, files=1)
        second = threading.Thread(target=upload)
        second.start()
        assert waits.wait(30)
        session.commit()
    second.join(30)

    assert admitted == [False]


def test_an_expired_file_is_hidden_at_once_and_deleted_in_steps(
    database: SessionFactory,
) -> None:
    with database.begin() as session:
        key = add_key(session)
        file = add_file(session, key, pieces=PIECES_A_STEP + 1)
        other = add_file(session, key, pieces=1)
        expire_file(session, file.id)

    steps = []
    for _ in range(4):
        with database.begin() as session:
            assert find_file(session, file.id) is None
            steps.append(delete_expired_files(session))

    assert steps == [PIECES_A_STEP, 1, 1, 0]
    with database() as session:
        assert session.scalar(select(func.count()).select_from(FilePiece)) == 1
        listed = list_files(session, key.user_id, after=None, limit=9, is_newest_first=True).rows
        assert [one.id for one in listed] == [other.id]


def test_rejected_batches_of_a_user_are_bounded_and_expire(database: SessionFactory) -> None:
    with database.begin() as session:
        key, other = add_key(session), add_key(session)
        others = add_rejected(session, other)
        made = [add_rejected(session, key) for _ in range(MAX_OF_USER + 2)]
        add_rejected(session, other, days=-1)

        delete_expired_rejections(session)

        mine = list_rejected_batches(session, key.user_id, after=None, limit=999).rows
        theirs = list_rejected_batches(session, other.user_id, after=None, limit=999).rows
    assert [one.id for one in mine] == [one.id for one in reversed(made[2:])]
    assert [one.id for one in theirs] == [others.id]
