"""Watches the loop from its own thread: deadlines, hangs, and restarts after a failure."""

from __future__ import annotations

import logging
import threading
import time

from worker.engine.hf.loop import Loop
from worker.engine.hf.recovery.faults import FaultKind, classify_fault
from worker.engine.hf.recovery.probation import Probation
from worker.engine.hf.state.roster import Roster
from worker.engine.hf.submitter import Submitter
from worker.engine.protocol import FinishReason

_log = logging.getLogger(__name__)

#: Time between two checks.
POLL_SECONDS = 0.02
#: How long `stop` waits for the thread to end.
STOP_SECONDS = 5.0
#: Requests in a row that fail alone, without a token in between, before the engine is at fault.
MAX_LONE_FAILURES = 8


class Watchdog:
    """Restart a loop that died, and find the request that is at fault.

    Attributes:
        is_healthy: False when the loop hangs, or cannot be restarted in this process.
        restarts: restarts of the loop so far.
    """

    def __init__(
        self,
        *,
        loop: Loop,
        roster: Roster,
        submitter: Submitter,
        stall_seconds: float,
        can_restart: bool = True,
    ) -> None:
        """Store the parts to watch.

        Args:
            stall_seconds: the engine is unhealthy after this long without a step.
            can_restart: False makes the engine unhealthy at the first death of the loop.
        """
        self._can_restart = can_restart
        self._loop = loop
        self._roster = roster
        self._submitter = submitter
        self._stall_seconds = stall_seconds
        self._probation = Probation()
        self._lone_failures = 0
        self._steps = 0
        self._progressed_at = time.monotonic()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine-watchdog", daemon=True)
        self.is_healthy = True
        self.restarts = 0

    def start(self) -> None:
        """Start the watchdog's thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; waits up to `STOP_SECONDS`."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)

    @property
    def must_hold(self) -> bool:
        """Whether new requests must wait: the loop is dead, or sequences are on probation."""
        return self._probation.is_active or not self._loop.is_alive

    def _run(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            try:
                self._check()
            except Exception:  # without its watchdog the engine could hang unnoticed
                _log.exception("the engine's watchdog failed")
                self.is_healthy = False

    def _check(self) -> None:
        self._expire()
        if not self.is_healthy:
            self._loop.router.flush()
            return
        if not self._loop.is_alive:
            self._recover()
        elif self._probation.is_active and self._probation.has_passed:
            self._try_next_group()
        self._check_progress()

    def _expire(self) -> None:
        """End sequences whose deadline has passed."""
        now = time.monotonic()
        with self._roster.lock:
            late = [
                s
                for s in self._roster.live()
                if s.request.deadline is not None and s.request.deadline <= now
            ]
            ended = self._roster.end_later(late, FinishReason.EXPIRED)
        for sequence in ended:
            self._loop.cancel(sequence.library_id)

    def _check_progress(self) -> None:
        """Mark the engine unhealthy if no step was made for too long while sequences wait."""
        now = time.monotonic()
        steps = self._loop.sampler.steps
        if steps != self._steps or not len(self._roster):
            self._steps, self._progressed_at = steps, now
        elif now - self._progressed_at > self._stall_seconds:
            _log.error("the engine hangs: no step for %.0f seconds", now - self._progressed_at)
            self.is_healthy = False

    def _recover(self) -> None:
        """Restart the loop and resubmit its sequences: suspects first, in groups."""
        error = self._loop.error
        fault = classify_fault(error)
        _log.error("the engine's loop died; the cause is %s", fault.value, exc_info=error)
        if fault is FaultKind.DEVICE or not self._can_restart:
            self.is_healthy = False
            return
        with self._roster.lock:
            self.restarts += 1
            self._loop.drop_queued()
            for sequence in self._roster.live():
                sequence.is_held = True
            if not (fault is FaultKind.MEMORY and self._loop.scheduler.shrink()):
                self._blame(str(error))
            if self.is_healthy:
                self._loop.start()
        self._try_next_group()
        self._loop.router.flush()

    def _blame(self, error: str) -> None:
        """End the sequences at fault with the error, and put the other suspects on probation."""
        suspected = self._loop.scheduler.suspects
        live = self._roster.live()
        suspects = [s for s in live if s.library_id in suspected] or live
        if any(sequence.is_cleared for sequence in live):
            self._lone_failures = 0
        guilty = self._probation.fail(suspects)
        self._lone_failures += len(guilty)
        self._roster.end_later(guilty, FinishReason.ERROR, error)
        if self._lone_failures >= MAX_LONE_FAILURES:
            _log.error(
                "the engine is at fault: %d requests in a row failed alone", self._lone_failures
            )
            self.is_healthy = False

    def _try_next_group(self) -> None:
        """Run the next group on probation alone, or all held sequences after the last group."""
        with self._roster.lock:
            passed = [s for s in self._probation.current if not s.is_ended]
            group = self._probation.next_group()
            if group:
                self._submitter.hold(passed)
                self._submitter.resubmit(group)
            else:
                self._submitter.resubmit([s for s in self._roster.live() if s.is_held])
