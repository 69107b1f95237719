"""Every advisory lock that the programs take in PostgreSQL: one purpose, one name.

A lock of the whole service is one number of 64 bits. A lock of one row's affairs is two numbers of
32 bits, its purpose and the row's. PostgreSQL keeps the two kinds apart, so that no row's number is
ever that of the service. All end with their transaction, but the one of migrations.
"""

from __future__ import annotations

from enum import IntEnum, unique
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session


@unique
class ServiceLock(IntEnum):
    """What one process of the whole service does at a time.

    Never change a number: programs of two versions run beside each other during an upgrade.
    """

    MIGRATION = 7_268_400
    RETENTION = 7_268_401
    USAGE_ROLLUP = 7_268_402
    SEED = 7_268_403
    BATCH_DISPATCH = 0x66656564


@unique
class RowLock(IntEnum):
    """What one transaction at a time does with the dependents of a row."""

    BATCHES_OF_KEY = 1
    FILES_OF_USER = 2


def take_lock(session: Session, lock: ServiceLock, *, is_shared: bool = False) -> None:
    """Wait for a lock of the service and hold it until the transaction ends.

    Args:
        is_shared: others may share it; an exclusive request waits.
    """
    name = "pg_advisory_xact_lock_shared" if is_shared else "pg_advisory_xact_lock"
    session.execute(text(f"select {name}(:lock)"), {"lock": int(lock)})


def try_lock(session: Session, lock: ServiceLock) -> bool:
    """Take a lock of the service until the transaction ends; False if another holds it."""
    attempt = text("select pg_try_advisory_xact_lock(:lock)")
    return bool(session.scalar(attempt, {"lock": int(lock)}))


def lock_row(session: Session, lock: RowLock, row_id: UUID) -> None:
    """Wait for a lock of a row and hold it until the transaction ends.

    Rows whose ids end with the same 32 bits wait for each other, and nothing worse.
    """
    low = row_id.int & 0xFFFF_FFFF
    values = {"lock": int(lock), "row": low - (1 << 32) if low >> 31 else low}
    session.execute(text("select pg_advisory_xact_lock(:lock, :row)"), values)
