"""Locks of one purpose never collide with those of another."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import text

from core.ids import new_id
from models.database.base import Session, SessionFactory
from models.database.locks import RowLock, ServiceLock, lock_row, take_lock, try_lock
from models.seed import seed_admin
from tests.support.paths import ROOT

PACKAGES = ("admin_ui", "api", "cli", "core", "migrations", "models", "worker")


@pytest.fixture
def impatient_sessions(database: SessionFactory) -> SessionFactory:
    """Sessions that fail when they wait for a lock."""

    class Impatient(Session):
        def __init__(self, **options: object) -> None:
            super().__init__(**options)  # type: ignore[arg-type]
            self.execute(text("set local lock_timeout = 200"))

    return SessionFactory(database.kw["bind"], class_=Impatient)


def test_seeding_does_not_wait_for_retention(
    database: SessionFactory, impatient_sessions: SessionFactory
) -> None:
    with database() as other, impatient_sessions() as session:
        assert try_lock(other, ServiceLock.RETENTION)

        assert seed_admin(session, email="a@b.c", password="a password")


@pytest.mark.parametrize("lock", ServiceLock)
def test_no_row_has_the_number_of_a_service_lock(
    database: SessionFactory, impatient_sessions: SessionFactory, lock: ServiceLock
) -> None:
    with database() as other, impatient_sessions() as session:
        take_lock(other, lock)

        for row_lock in RowLock:
            lock_row(session, row_lock, UUID(int=lock))
            lock_row(session, row_lock, UUID(int=row_lock << 32 | lock))


def test_each_purpose_and_each_row_has_its_own_lock(
    database: SessionFactory, impatient_sessions: SessionFactory
) -> None:
    row_id = new_id()
    with database() as other, impatient_sessions() as session:
        lock_row(other, RowLock.BATCHES_OF_KEY, row_id)

        lock_row(session, RowLock.FILES_OF_USER, row_id)
        lock_row(session, RowLock.BATCHES_OF_KEY, UUID(int=row_id.int ^ 1))


def test_a_lock_is_held_until_its_transaction_ends(database: SessionFactory) -> None:
    with database() as other, database() as session:
        take_lock(other, ServiceLock.SEED)
        assert not try_lock(session, ServiceLock.SEED)
        other.rollback()
        assert try_lock(session, ServiceLock.SEED)


@pytest.mark.parametrize("low", [0, 1, 2**31 - 1, 2**31, 2**32 - 1])
def test_every_id_has_a_lock(session: Session, low: int) -> None:
    lock_row(session, RowLock.FILES_OF_USER, UUID(int=(7 << 32) | low))


def test_every_lock_is_named_in_one_place() -> None:
    naming = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if "pg_advisory" in path.read_text() or "pg_try_advisory" in path.read_text()
    }

    assert naming == {"models/database/locks.py", "migrations/run.py"}
