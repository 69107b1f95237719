"""Ends lines of cancelled and expired batches and lines beyond the quota, and finishes batches.

It also holds back the lines of keys that may not be used.

Each step is one transaction of at most `CHUNK` lines. Any worker can make the next step, so that
another one continues if a worker dies.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from uuid import UUID

import redis

from core.completion.announce import EndAnnouncer
from core.events.job_commands import send_cancels
from core.limits.limiter import Limiter
from models.batches.batch import BatchState
from models.batches.cancellation import begin_expiries, request_batch_cancel
from models.batches.dispatch import OpenBatch
from models.database.base import DATABASE_AWAY, SessionFactory
from models.execution.batch_progress import finish_complete_batches
from models.execution.line_ends import (
    CHUNK,
    cancel_released_lines,
    end_held_lines,
    expire_held_lines,
    expire_released_lines,
    hold_lines_back,
)
from models.jobs.job import JobState
from models.usage.limits import ended_job
from worker.maintenance.guard import Guard

_log = logging.getLogger(__name__)

_QUOTA_ERROR = {
    "code": "monthly_quota_exceeded",
    "message": "the key's tokens of this month leave no room for this line",
}


@dataclass(slots=True)
class _Sweep:
    """A scan that fails a batch's held lines if they may need over `room` tokens.

    Attributes:
        after: number of the last line that was scanned.
    """

    room: int
    after: int = 0


class LineEnder:
    def __init__(
        self,
        *,
        sessions: SessionFactory,
        client: redis.Redis,
        ends: EndAnnouncer | None = None,
        count_failure: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._sessions = sessions
        self._client = client
        self._ends = ends or EndAnnouncer(client)
        self._limiter = Limiter(client)
        self._rooms: dict[UUID, int] = {}
        self._sweeps: dict[UUID, _Sweep] = {}
        self._single_lines = Guard(
            "batches",
            about="lines with their own completion window",
            count_failure=count_failure,
            expected=(*DATABASE_AWAY, redis.RedisError),
        )

    def fail_beyond(self, key_id: UUID, *, room: int) -> None:
        """Fail held lines of a key that may need more tokens than the month has left.

        Args:
            room: tokens that the month has left.
        """
        self._rooms[key_id] = min(room, self._rooms.get(key_id, room))

    def end_lines(
        self, batches: Sequence[OpenBatch], guard: Callable[[UUID], AbstractContextManager[object]]
    ) -> bool:
        """Make a step for each batch that needs one; return whether there is more.

        Args:
            guard: returns the guard of a batch, given its id; it isolates the batch's errors.

        Raises:
            Exception: one of `DATABASE_AWAY`.
        """
        self._start_sweeps(batches)
        has_more = False
        if not self._single_lines.is_backing_off:
            with self._single_lines:
                has_more = self._expire_single_lines()
        for batch in batches:
            with guard(batch.id):
                has_more |= self._end_lines_of(batch)
        return has_more

    def _end_lines_of(self, batch: OpenBatch) -> bool:
        if batch.state == BatchState.RUNNING:
            self._end_if_due(batch)
        if batch.id in self._sweeps:
            self._sweep(batch.id, self._sweeps[batch.id])
        if batch.is_done:
            self._finish(batch.id)
        elif batch.must_hold:
            return self._hold_back(batch.id)
        elif batch.state == BatchState.CANCELLING:
            return self._cancel_lines(batch.id)
        elif batch.state == BatchState.EXPIRING:
            return self._expire_lines(batch.id)
        return batch.id in self._sweeps

    def _end_if_due(self, batch: OpenBatch) -> None:
        """Start the end of a batch that is due, or whose key or user was deleted."""
        if batch.is_due:
            with self._sessions.begin() as session:
                has_started = bool(begin_expiries(session, [batch.id]))
            if has_started:
                _log.info("batch expires", extra={"batch": batch.id.hex})
        elif batch.is_orphan:
            with self._sessions.begin() as session:
                request_batch_cancel(session, batch.id)
            _log.info("batch of a deleted key is cancelled", extra={"batch": batch.id.hex})

    def _finish(self, batch_id: UUID) -> None:
        with self._sessions.begin() as session:
            finish_complete_batches(session, [batch_id])

    def _start_sweeps(self, batches: Sequence[OpenBatch]) -> None:
        running = {batch.id: batch for batch in batches if batch.state == BatchState.RUNNING}
        self._sweeps = {b: sweep for b, sweep in self._sweeps.items() if b in running}
        for batch in running.values():
            if batch.api_key_id in self._rooms and batch.id not in self._sweeps:
                self._sweeps[batch.id] = _Sweep(self._rooms[batch.api_key_id])
        self._rooms.clear()

    def _sweep(self, batch_id: UUID, sweep: _Sweep) -> None:
        with self._sessions.begin() as session:
            ends = end_held_lines(
                session,
                batch_id,
                JobState.FAILED,
                error=_QUOTA_ERROR,
                after=sweep.after,
                room=sweep.room,
            )
        self._ends.announce_held(ends.ids, JobState.FAILED)
        if ends.ids:
            counts = {"batch": batch_id.hex, "lines": len(ends.ids)}
            _log.info("lines fail, the monthly quota is used up", extra=counts)
        if ends.checked < CHUNK:
            del self._sweeps[batch_id]
        sweep.after = ends.last_line

    def _expire_single_lines(self) -> bool:
        with self._sessions.begin() as session:
            expired = expire_held_lines(session)
        self._ends.announce_held([job.id for job in expired], JobState.EXPIRED)
        return len(expired) == CHUNK

    def _hold_back(self, batch_id: UUID) -> bool:
        """Hold released lines again while their key may not be used."""
        with self._sessions.begin() as session:
            held = hold_lines_back(session, batch_id)
        if not held:
            return False
        # Cancel before the limits are released: a late command would cancel a restarted line.
        send_cancels(self._client, [line.id for line in held if line.was_running])
        self._limiter.load()
        with self._client.pipeline(transaction=False) as pipe:
            for line in held:
                self._limiter.release(line.api_key_id, line.id, pipe=pipe)
            pipe.execute()
        _log.info("batch is paused", extra={"batch": batch_id.hex, "lines": len(held)})
        return len(held) == CHUNK

    def _cancel_lines(self, batch_id: UUID) -> bool:
        self._cancel_released(batch_id)
        return self._end_held(batch_id, JobState.CANCELLED)

    def _expire_lines(self, batch_id: UUID) -> bool:
        """Expire lines that never started; cancel lines that run."""
        with self._sessions.begin() as session:
            expired = expire_released_lines(session, batch_id)
        self._ends.announce(ended_job(job) for job in expired)
        self._cancel_released(batch_id)
        return self._end_held(batch_id, JobState.EXPIRED)

    def _end_held(self, batch_id: UUID, state: JobState) -> bool:
        with self._sessions.begin() as session:
            ends = end_held_lines(session, batch_id, state)
        self._ends.announce_held(ends.ids, state)
        return ends.checked == CHUNK

    def _cancel_released(self, batch_id: UUID) -> None:
        with self._sessions.begin() as session:
            cancelled = cancel_released_lines(session, batch_id)
        self._ends.announce(ended_job(job) for job in cancelled if job.is_final)
        send_cancels(self._client, [job.id for job in cancelled if not job.is_final])
