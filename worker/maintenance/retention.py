"""Deletes expired data, by the steps of `models/maintenance/retention.py`.

Every worker runs retention; a lock lets one at a time delete. A pass is short, and the next pass
continues where it ended. The database's clock measures ages: a worker's clock that is days ahead
would delete data too early.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from core.config.settings import Settings
from models.database.base import DATABASE_AWAY, Session, SessionFactory, database_now
from models.maintenance.retention import (
    batch_with_texts,
    begin_batch_deletion,
    delete_audit,
    delete_jobs,
    delete_lines,
    delete_texts,
    delete_texts_of_lines,
    delete_webhooks,
    try_retention_lock,
)
from worker.maintenance.guard import Guard

_log = logging.getLogger(__name__)

#: Pause after a pass that left nothing to delete.
INTERVAL_SECONDS = 60.0
#: Longest pass; another worker may get the lock before the next one.
PASS_SECONDS = 0.5


class _LineStep(Protocol):
    def __call__(self, session: Session, batch_id: UUID, *, after: int) -> int | None: ...


class Retention:
    def __init__(
        self,
        *,
        sessions: SessionFactory,
        settings: Settings,
        interval_seconds: float = INTERVAL_SECONDS,
        pass_seconds: float = PASS_SECONDS,
        count_failure: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._sessions = sessions
        self._settings = settings
        self._interval_seconds = interval_seconds
        self._pass_seconds = pass_seconds
        self._count_failure = count_failure
        self._next_pass_at = float("-inf")
        # Kept between passes: a batch may take several.
        self._steps: Iterator[None] | None = None

    def enforce(self) -> None:
        """Make a pass if it is due. With the database away, leave it to the next pass."""
        if time.monotonic() < self._next_pass_at:
            return
        deadline = time.monotonic() + self._pass_seconds
        self._steps = self._steps or self._all_steps()
        try:
            for _ in self._steps:
                if time.monotonic() > deadline:
                    return  # the next run continues
        except DATABASE_AWAY:
            _log.warning("retention deletes nothing: the database is away or too busy")
        # A generator that raised is exhausted, like one that ended.
        self._steps = None
        self._next_pass_at = time.monotonic() + self._interval_seconds

    def _all_steps(self) -> Iterator[None]:
        """Yield after each step. An error in one kind of data blocks no other kind."""
        for what, steps in self._kinds():
            with Guard(
                "retention", about=what, count_failure=self._count_failure, expected=DATABASE_AWAY
            ):
                yield from steps

    def _kinds(self) -> Iterator[tuple[str, Iterator[None]]]:
        settings = self._settings
        if days := settings.retain_jobs_days:
            yield "jobs", self._until_done("jobs", delete_jobs, days)
            yield "batches", self._batches(days)
        if days := settings.retain_prompts_days:
            yield "texts", self._until_done("texts", delete_texts, days)
            yield "texts of batches", self._texts_of_batches(days)
        if days := settings.retain_webhooks_days:
            yield "webhooks", self._until_done("webhooks", delete_webhooks, days)
        if days := settings.retain_audit_days:
            yield "audit", self._until_done("audit", delete_audit, days)

    def _until_done(
        self, what: str, step: Callable[[Session, datetime], int], days: int
    ) -> Iterator[None]:
        before = self._days_ago(days)
        total = 0
        while True:
            with self._sessions.begin() as session:
                count = step(session, before) if try_retention_lock(session) else 0
            if not count:
                break
            total += count
            yield
        if total:
            _log.info("deleted by retention", extra={"what": what, "rows": total})

    def _batches(self, days: int) -> Iterator[None]:
        before = self._days_ago(days)
        while True:
            with self._sessions.begin() as session:
                batch_id = (
                    begin_batch_deletion(session, before) if try_retention_lock(session) else None
                )
            if batch_id is None:
                return
            yield from self._lines(delete_lines, batch_id)
            _log.info("deleted by retention", extra={"what": "batch", "batch": batch_id.hex})

    def _texts_of_batches(self, days: int) -> Iterator[None]:
        before = self._days_ago(days)
        while True:
            with self._sessions.begin() as session:
                batch_id = (
                    batch_with_texts(session, before) if try_retention_lock(session) else None
                )
            if batch_id is None:
                return
            yield from self._lines(delete_texts_of_lines, batch_id)

    def _days_ago(self, days: int) -> datetime:
        with self._sessions() as session:
            return database_now(session) - timedelta(days=days)

    def _lines(self, step: _LineStep, batch_id: UUID) -> Iterator[None]:
        after: int | None = 0
        while after is not None:
            with self._sessions.begin() as session:
                if not try_retention_lock(session):
                    return
                after = step(session, batch_id, after=after)
            yield
