"""Releases held batch lines to the bulk queue, round robin over keys and batches.

It keeps the queue long enough that no worker idles, and short enough that the first line of a new
batch starts soon.

Every worker runs a dispatcher. A lock lets one release at a time; two at once would do no harm,
since a release is a conditional UPDATE. The order is the contract: charge, commit, send. A line
that was charged and not released is charged only once when it is released. The reaper sends a line
that was released and not sent.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import redis

from core.completion.announce import EndAnnouncer
from core.errors import Unavailable
from core.events.batch_events import subscribe_to_batches
from core.limits.limiter import ChargeVerdict, Limiter, LineCharge, LineVerdict
from core.limits.state import KeyUse
from core.queueing.broker import JobQueue
from core.queueing.names import QueueName
from core.queueing.workers import WorkerRegistry
from models.batches.dispatch import (
    HeldLine,
    OpenBatch,
    count_released,
    note_start,
    open_batches,
    release_lines,
    try_to_dispatch,
)
from models.database.base import DATABASE_AWAY, Session, SessionFactory
from models.usage.limits import read_key_use
from worker.batches.line_buffer import LineBuffer
from worker.batches.line_ender import LineEnder
from worker.batches.round_robin import RoundRobin
from worker.maintenance.guard import Guard, is_expected

_log = logging.getLogger(__name__)

#: Longest time between two passes.
TICK_SECONDS = 1.0
#: Pause between two passes; one pass handles all events since the last one.
PAUSE_SECONDS = 0.03
#: Released lines on the queue for each bulk slot of the ready workers.
WAITING_PER_SLOT = 1
JOIN_SECONDS = 5.0
#: Label of the metric of failures.
_NAME = "batches"
#: Expected errors: the dispatcher waits for the absent part.
_AWAY = (*DATABASE_AWAY, redis.RedisError, Unavailable)


class Dispatcher:
    def __init__(
        self,
        *,
        sessions: SessionFactory,
        client: redis.Redis,
        ends: EndAnnouncer | None = None,
        tick_seconds: float = TICK_SECONDS,
        count_failure: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._sessions = sessions
        self._queue = JobQueue(client)
        self._workers = WorkerRegistry(client)
        self._limiter = Limiter(client)
        self._line_ender = LineEnder(
            sessions=sessions, client=client, ends=ends, count_failure=count_failure
        )
        self._round_robin = RoundRobin()
        self._tick_seconds = tick_seconds
        self._first_lines: dict[UUID, int] = {}
        self._empty: set[UUID] = set()
        self._count_failure = count_failure
        self._guards: dict[UUID, Guard] = {}
        self._is_away = False
        self._has_work = threading.Event()
        self._is_stopping = threading.Event()
        self._subscription = subscribe_to_batches(client, self.wake)
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)

    def start(self) -> None:
        self._subscription.listen()
        self._thread.start()

    def wake(self) -> None:
        """Start a pass now: there is a new batch, or lines have started or ended."""
        self._has_work.set()

    def stop(self) -> None:
        """Stop releasing lines."""
        self._is_stopping.set()
        self._has_work.set()
        self._thread.join(timeout=JOIN_SECONDS)
        self._subscription.close()

    def run_once(self) -> bool:
        """Make one pass over the open batches; return whether there is more to do.

        After an unexpected error a batch is skipped for some time, and the others continue.

        Raises:
            Exception: one of `DATABASE_AWAY`, or `redis.RedisError`.
        """
        with self._sessions() as session:
            batches = open_batches(session)
        is_open = {batch.id for batch in batches}
        self._guards = {b: guard for b, guard in self._guards.items() if b in is_open}
        batches = [batch for batch in batches if not self._guard(batch.id).is_backing_off]
        self._empty &= is_open
        self._first_lines = {b: line for b, line in self._first_lines.items() if b in is_open}
        if not batches:
            return False
        has_more = self._line_ender.end_lines(batches, self._guard)
        waiting = [b for b in batches if b.may_run and b.id not in self._empty]
        return (bool(waiting) and self._release_all(waiting)) or has_more

    def _run(self) -> None:
        while not self._is_stopping.is_set():
            self._has_work.wait(self._tick_seconds)
            self._has_work.clear()
            if self._run_once_safely():
                self._has_work.set()
            self._is_stopping.wait(self._tick_seconds if self._is_away else PAUSE_SECONDS)

    def _run_once_safely(self) -> bool:
        try:
            has_more = self.run_once()
        except _AWAY as error:
            if not self._is_away:
                _log.warning("no lines are released, a part is away: %s", type(error).__name__)
            self._is_away = True
            return False
        except Exception:
            # Broad on purpose: an error must not end the dispatcher.
            _log.exception("cannot release lines of batches")
            self._count_failure(_NAME)
            return False
        if self._is_away:
            _log.info("lines of batches are released again")
        self._is_away = False
        return has_more

    def _guard(self, batch_id: UUID) -> Guard:
        if batch_id not in self._guards:
            self._guards[batch_id] = Guard(
                _NAME, about=batch_id.hex, count_failure=self._count_failure, expected=_AWAY
            )
        return self._guards[batch_id]

    def _release_all(self, batches: Sequence[OpenBatch]) -> bool:
        """Release lines of all batches; after an error, batch by batch."""
        try:
            return self._release(batches)
        except Exception as error:
            if is_expected(error, _AWAY):
                raise
            # Broad on purpose: an error of one batch must not delay the others.
            _log.warning("cannot release lines together, retrying each batch alone", exc_info=True)
        has_more = False
        for batch in batches:
            with self._guard(batch.id):
                has_more |= self._release([batch])
        return has_more

    def _release(self, batches: Sequence[OpenBatch]) -> bool:
        """Release lines while the queue is short; True if another dispatcher does."""
        slots = sum(worker.bulk_places for worker in self._workers.ready())
        target = slots * WAITING_PER_SLOT
        room = target - self._queue.length(QueueName.BULK)
        if room <= 0:
            return False
        with self._sessions.begin() as session:
            if not try_to_dispatch(session):
                return True
            # If Redis lost its data, the queue looks empty: count the rows too.
            room = min(room, target - count_released(session))
            if room <= 0:
                return False
            lines = self._charge(session, self._choose(session, room, batches), batches)
            released = release_lines(session, lines) if lines else set()
            started = {line.batch_id for line in lines if line.id in released}
            note_start(session, started & {b.id for b in batches if not b.has_started})
        self._queue.send_many([ln.id for ln in lines if ln.id in released], QueueName.BULK)
        return False

    def _choose(self, session: Session, room: int, batches: Sequence[OpenBatch]) -> list[HeldLine]:
        """Return the next lines in round-robin order."""
        by_key: dict[UUID, list[UUID]] = {}
        for batch in batches:
            by_key.setdefault(batch.api_key_id, []).append(batch.id)
        buffer = LineBuffer(session, self._first_lines)
        buffer.fetch(self._round_robin.predict(room, by_key))
        chosen = self._round_robin.choose(room, by_key, lambda batch_id: buffer.pop(batch_id, room))
        self._empty |= buffer.empty
        return chosen

    def _charge(
        self, session: Session, lines: Sequence[HeldLine], batches: Sequence[OpenBatch]
    ) -> list[HeldLine]:
        """Charge lines to their keys' monthly quotas; return the charged lines.

        If pending charges leave too little quota, a line waits with the rest of its batch. If the
        quota itself is used up, the lines that cannot fit any more fail.
        """
        if not lines:
            return []
        by_id = {batch.id: batch for batch in batches}
        charges = [
            LineCharge(line.id, batch.api_key_id, line.tokens, batch.monthly_token_limit)
            for line in lines
            for batch in [by_id[line.batch_id]]
        ]

        def recall(key_id: UUID, month: datetime) -> KeyUse:
            return read_key_use(session, key_id, month)

        verdicts = self._limiter.charge_lines(charges, recall=recall)
        self._fail_beyond_quota(charges, verdicts)
        return [
            line
            for line, verdict in zip(lines, verdicts, strict=True)
            if verdict.verdict is ChargeVerdict.CHARGED
        ]

    def _fail_beyond_quota(
        self, charges: Sequence[LineCharge], verdicts: Sequence[LineVerdict]
    ) -> None:
        for charge, (verdict, used) in zip(charges, verdicts, strict=True):
            if verdict is ChargeVerdict.USED_UP and charge.monthly_limit is not None:
                self._line_ender.fail_beyond(charge.key_id, room=charge.monthly_limit - used)
                self.wake()
