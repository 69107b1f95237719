"""All advisory locks that the programs take in PostgreSQL: one name per purpose.

A lock of the whole service is one number of 64 bits. A lock of a row is two numbers of 32 bits: its
purpose and the row's number. PostgreSQL keeps both kinds apart, so no lock of a row equals one of
the service. All locks end with their transaction, except the lock of migrations.
"""

from __future__ import annotations

from enum import IntEnum, unique
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session


@unique
class ServiceLock(IntEnum):
    """Work that only one process of the whole service does at a time.

    Never change a number: programs of two versions run beside each other during an upgrade.
    """

    MIGRATION = 7_268_400
    RETENTION = 7_268_401
    USAGE_ROLLUP = 7_268_402
    SEED = 7_268_403
    BATCH_DISPATCH = 0x66656564


@unique
class RowLock(IntEnum):
    """Work on the dependents of a row that only one transaction does at a time."""

    BATCHES_OF_KEY = 1
    FILES_OF_USER = 2


def take_lock(session: Session, lock: ServiceLock, *, is_shared: bool = False) -> None:
    """Wait for a lock of the service and hold it until the transaction ends.

    Args:
        is_shared: share the lock with other shared holders; an exclusive request waits.
    """
    name = "pg_advisory_xact_lock_shared" if is_shared else "pg_advisory_xact_lock"
    session.execute(text(f"select {name}(:lock)"), {"lock": int(lock)})


def try_lock(session: Session, lock: ServiceLock) -> bool:
    """Take a lock of the service until the transaction ends.

    Returns False if another transaction holds it.
    """
    attempt = text("select pg_try_advisory_xact_lock(:lock)")
    return bool(session.scalar(attempt, {"lock": int(lock)}))


def lock_row(session: Session, lock: RowLock, row_id: UUID) -> None:
    """Wait for a lock of a row and hold it until the transaction ends.

    Rows whose ids end with the same 32 bits share a lock, and only wait for each other.
    """
    low = row_id.int & 0xFFFF_FFFF
    values = {"lock": int(lock), "row": low - (1 << 32) if low >> 31 else low}
    session.execute(text("select pg_advisory_xact_lock(:lock, :row)"), values)
