"""From the engine's tokens to finished answers: one thread for all jobs of this worker.

The engine's thread hands over each step's events in one piece and goes on. This thread turns ids
into text, watches for stop strings, and wakes a job's own thread once, at its end.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from queue import Empty, SimpleQueue

from models.base import utc_now
from worker.engine import Engine, EngineRequest, FinishReason, Handle, StepEvent, TokenLogprob
from worker.text import Decode, IncrementalText, StopScanner

_log = logging.getLogger(__name__)

#: How often the thread looks whether it should stop.
POLL_SECONDS = 0.5


@dataclass(slots=True)
class Choice:
    """One of the answers: its text so far and, when it has ended, why.

    Attributes:
        logprobs: each counted token with its log probability, if the request asked for them.
    """

    decoded: IncrementalText
    scanner: StopScanner
    text: str = ""
    tokens: int = 0
    logprobs: list[tuple[int, TokenLogprob]] = field(default_factory=list)
    finish_reason: FinishReason | None = None

    @property
    def has_ended(self) -> bool:
        return self.finish_reason is not None


@dataclass(eq=False, slots=True)
class Answer:
    """The answers to one request, filled by the delivery thread; `wait` for the end.

    Attributes:
        error: what went wrong in the engine, if something did.
    """

    choices: list[Choice]
    handle: Handle | None = None
    first_token_at: datetime | None = None
    error: str | None = None
    _ended: threading.Event = field(default_factory=threading.Event)

    def wait(self, timeout_seconds: float) -> bool:
        """Return whether all choices have ended; wait for it at most this long."""
        return self._ended.wait(timeout_seconds)

    def cancel(self) -> None:
        """End what still runs; the tokens made until then stay counted."""
        if self.handle is not None:
            self.handle.cancel()

    @property
    def completion_tokens(self) -> int:
        return sum(choice.tokens for choice in self.choices)

    @property
    def cached_tokens(self) -> int:
        return self.handle.cached_tokens if self.handle is not None else 0


class Delivery:
    """Stands between the jobs' threads and the engine."""

    def __init__(self, engine: Engine, decode: Decode) -> None:
        self._engine = engine
        self._decode = decode
        self._steps: SimpleQueue[Sequence[StepEvent]] = SimpleQueue()
        self._answers: dict[str, Answer] = {}
        self._lock = threading.Lock()
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)

    def start(self) -> None:
        """Start the engine and deliver what it makes."""
        self._thread.start()
        self._engine.start(self._steps.put)

    def stop(self) -> None:
        """Stop the engine; what runs ends as cancelled."""
        self._engine.stop()
        self._is_stopping.set()
        self._thread.join(timeout=10 * POLL_SECONDS)

    def submit(self, request: EngineRequest, *, stop: Sequence[str] = ()) -> Answer:
        """Run a request; its answer fills as the engine goes.

        Raises:
            EngineRefused: the request is at fault.
            EngineStopping: the engine takes no request any more.
        """
        choices = [
            Choice(IncrementalText(self._decode), StopScanner(stop)) for _ in range(request.n)
        ]
        answer = Answer(choices)
        with self._lock:
            self._answers[request.request_id] = answer
        try:
            answer.handle = self._engine.submit(request)
        except BaseException:
            with self._lock:
                del self._answers[request.request_id]
            raise
        return answer

    def _run(self) -> None:
        while not (self._is_stopping.is_set() and self._steps.empty()):
            try:
                events = self._steps.get(timeout=POLL_SECONDS)
            except Empty:
                continue
            now = utc_now()
            for event in events:
                try:
                    self._take(event, now)
                except Exception:
                    # One answer's fault must not end the delivery of all others.
                    _log.exception("delivery of %s failed", event.handle.request.request_id)
                    self._fail(event)

    def _take(self, event: StepEvent, now: datetime) -> None:
        answer = self._answers.get(event.handle.request.request_id)
        if answer is None or answer.choices[event.index].has_ended:
            return
        choice = answer.choices[event.index]
        if event.token_ids and answer.first_token_at is None:
            answer.first_token_at = now
        self._add_tokens(choice, event)
        if event.error is not None:
            answer.error = event.error
        if choice.scanner.has_stopped:
            choice.finish_reason = FinishReason.STOP
            event.handle.cancel(event.index, FinishReason.STOP)
        elif event.finish_reason is not None:
            choice.text += choice.scanner.push(choice.decoded.flush())
            choice.text += choice.scanner.flush()
            choice.finish_reason = (
                FinishReason.STOP if choice.scanner.has_stopped else event.finish_reason
            )
        self._end_if_done(event, answer)

    def _add_tokens(self, choice: Choice, event: StepEvent) -> None:
        """Add tokens one by one: those after a stop string were made in vain and do not count."""
        for place, token_id in enumerate(event.token_ids):
            choice.tokens += 1
            if event.logprobs:
                choice.logprobs.append((token_id, event.logprobs[place]))
            choice.text += choice.scanner.push(choice.decoded.push((token_id,)))
            if choice.scanner.has_stopped:
                return

    def _fail(self, event: StepEvent) -> None:
        answer = self._answers.get(event.handle.request.request_id)
        if answer is None:
            return
        answer.error = "the answer's text could not be made"
        for choice in answer.choices:
            choice.finish_reason = choice.finish_reason or FinishReason.ERROR
        event.handle.cancel()
        self._end_if_done(event, answer)

    def _end_if_done(self, event: StepEvent, answer: Answer) -> None:
        if all(choice.has_ended for choice in answer.choices):
            with self._lock:
                self._answers.pop(event.handle.request.request_id, None)
            answer.handle = event.handle
            answer._ended.set()
