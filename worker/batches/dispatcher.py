"""Releases the lines of batches, few at a time and in turns: so many that no worker idles, so few
that a newcomer's first line begins soon.

Every worker runs one; a lock lets one at a time release, and two at once would do no harm, since a
release is a conditional UPDATE. The order is the contract: charge, commit, send. A line that was
charged and not released is charged once when it is; one that was released and not sent is sent by
the reaper.
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
    try_to_feed,
)
from models.database.base import DATABASE_AWAY, Session, SessionFactory
from models.usage.limits import read_key_use
from worker.batches.line_buffer import LineSupply
from worker.batches.line_canceller import LineEnder
from worker.batches.round_robin import Rota
from worker.maintenance.guard import Guard, is_expected

_log = logging.getLogger(__name__)

#: How often a feeder looks when nothing wakes it.
TICK_SECONDS = 1.0
#: Between two looks: what happens meanwhile is one look's work.
PAUSE_SECONDS = 0.03
#: Lines that wait for a place, for each place that workers have.
WAITING_PER_PLACE = 1
JOIN_SECONDS = 5.0
#: As the metric of failures says it.
_NAME = "batches"
#: Waited for, and no failure.
_AWAY = (*DATABASE_AWAY, redis.RedisError, Unavailable)


class Feeder:
    def __init__(
        self,
        *,
        sessions: SessionFactory,
        client: redis.Redis,
        ends: EndAnnouncer | None = None,
        tick_seconds: float = TICK_SECONDS,
        failed: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._sessions = sessions
        self._queue = JobQueue(client)
        self._workers = WorkerRegistry(client)
        self._limiter = Limiter(client)
        self._ender = LineEnder(sessions=sessions, client=client, ends=ends, failed=failed)
        self._rota = Rota()
        self._tick_seconds = tick_seconds
        self._first_lines: dict[UUID, int] = {}
        self._empty: set[UUID] = set()
        self._failed = failed
        self._guards: dict[UUID, Guard] = {}
        self._is_away = False
        self._must_look = threading.Event()
        self._is_stopping = threading.Event()
        self._news = subscribe_to_batches(client, self.wake)
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)

    def start(self) -> None:
        self._news.listen()
        self._thread.start()

    def wake(self) -> None:
        """Look now: there is a batch, or lines of one have begun or ended."""
        self._must_look.set()

    def stop(self) -> None:
        """Release nothing more."""
        self._is_stopping.set()
        self._must_look.set()
        self._thread.join(timeout=JOIN_SECONDS)
        self._news.close()

    def look(self) -> bool:
        """Do what is to be done for the open batches; True if there is more at once.

        A batch that raises something unexpected is left alone for a while, and the others go on.

        Raises one of `DATABASE_AWAY`, or `redis.RedisError`.
        """
        with self._sessions() as session:
            batches = open_batches(session)
        is_open = {batch.id for batch in batches}
        self._guards = {b: guard for b, guard in self._guards.items() if b in is_open}
        batches = [batch for batch in batches if not self._guard(batch.id).is_resting]
        self._empty &= is_open
        self._first_lines = {b: line for b, line in self._first_lines.items() if b in is_open}
        if not batches:
            return False
        has_more = self._ender.end_lines(batches, self._guard)
        waiting = [b for b in batches if b.may_run and b.id not in self._empty]
        return (bool(waiting) and self._release_all(waiting)) or has_more

    def _run(self) -> None:
        while not self._is_stopping.is_set():
            self._must_look.wait(self._tick_seconds)
            self._must_look.clear()
            if self._look_safely():
                self._must_look.set()
            self._is_stopping.wait(self._tick_seconds if self._is_away else PAUSE_SECONDS)

    def _look_safely(self) -> bool:
        try:
            has_more = self.look()
        except _AWAY as error:
            if not self._is_away:
                _log.warning("batches wait, a part is away: %s", type(error).__name__)
            self._is_away = True
            return False
        except Exception:
            # Broad on purpose: a fault must not end the feeding for good.
            _log.exception("batches could not be fed")
            self._failed(_NAME)
            return False
        if self._is_away:
            _log.info("batches go on")
        self._is_away = False
        return has_more

    def _guard(self, batch_id: UUID) -> Guard:
        if batch_id not in self._guards:
            self._guards[batch_id] = Guard(
                _NAME, about=batch_id.hex, failed=self._failed, lets_pass=_AWAY
            )
        return self._guards[batch_id]

    def _release_all(self, batches: Sequence[OpenBatch]) -> bool:
        """Release lines in turns; where that fails batch by batch, so that one alone stays."""
        try:
            return self._release(batches)
        except Exception as error:
            if is_expected(error, _AWAY):
                raise
            # Broad on purpose: a fault of one batch must not hold up the others.
            _log.warning(
                "lines cannot be released together, each batch is tried alone", exc_info=True
            )
        has_more = False
        for batch in batches:
            with self._guard(batch.id):
                has_more |= self._release([batch])
        return has_more

    def _release(self, batches: Sequence[OpenBatch]) -> bool:
        """Release lines as far as there is room; True if another feeder does at this moment."""
        places = sum(worker.bulk_places for worker in self._workers.ready())
        target = places * WAITING_PER_PLACE
        room = target - self._queue.length(QueueName.BULK)
        if room <= 0:
            return False
        with self._sessions.begin() as session:
            if not try_to_feed(session):
                return True
            # A queue that Redis has lost is not empty.
            room = min(room, target - count_released(session))
            if room <= 0:
                return False
            lines = self._charge(session, self._choose(session, room, batches), batches)
            released = release_lines(session, lines) if lines else set()
            begun = {line.batch_id for line in lines if line.id in released}
            note_start(session, begun & {b.id for b in batches if not b.has_started})
        self._queue.send_many([ln.id for ln in lines if ln.id in released], QueueName.BULK)
        return False

    def _choose(self, session: Session, room: int, batches: Sequence[OpenBatch]) -> list[HeldLine]:
        """Return the lines whose turn it is."""
        by_key: dict[UUID, list[UUID]] = {}
        for batch in batches:
            by_key.setdefault(batch.api_key_id, []).append(batch.id)
        supply = LineSupply(session, self._first_lines)
        supply.fetch(self._rota.expect(room, by_key))
        chosen = self._rota.deal(room, by_key, lambda batch_id: supply.draw(batch_id, room))
        self._empty |= supply.empty
        return chosen

    def _charge(
        self, session: Session, lines: Sequence[HeldLine], batches: Sequence[OpenBatch]
    ) -> list[HeldLine]:
        """Charge lines to their keys' months and return those that may go.

        One that what others hold of the quota leaves no room for waits with the rest of its batch.
        Where the quota itself is used up, the lines that will not fit any more fail.
        """
        if not lines:
            return []
        known = {batch.id: batch for batch in batches}
        charges = [
            LineCharge(line.id, batch.api_key_id, line.tokens, batch.monthly_token_limit)
            for line in lines
            for batch in [known[line.batch_id]]
        ]

        def recall(key_id: UUID, began: datetime) -> KeyUse:
            return read_key_use(session, key_id, began)

        verdicts = self._limiter.charge_lines(charges, recall=recall)
        self._note_used_up(charges, verdicts)
        return [
            line
            for line, verdict in zip(lines, verdicts, strict=True)
            if verdict.verdict is ChargeVerdict.CHARGED
        ]

    def _note_used_up(self, charges: Sequence[LineCharge], verdicts: Sequence[LineVerdict]) -> None:
        for charge, (verdict, used) in zip(charges, verdicts, strict=True):
            if verdict is ChargeVerdict.USED_UP and charge.monthly_limit is not None:
                self._ender.fail_beyond(charge.key_id, room=charge.monthly_limit - used)
                self.wake()
