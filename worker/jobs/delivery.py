"""Turns the engine's tokens into generations, on one thread for all jobs.

The engine's thread hands over all events of a step at once and continues. The delivery thread turns
ids into text, watches for stop strings, and calls back once at the end of each generation.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

from core.events.job_events import TextPiece
from worker.engine.protocol import Engine, EngineRequest, FinishReason, Handle, StepEvent
from worker.text.choice import RunningChoice
from worker.text.fenced_code import FencedCode
from worker.text.incremental_text import IncrementalText
from worker.text.logprobs import ChoiceLogprobs
from worker.text.stop_strings import StopScanner, StopStrings
from worker.text.token_bytes import TokenBytes

_log = logging.getLogger(__name__)

#: Publishes the text that one step added to followed generations; must return quickly.
PublishText = Callable[[Sequence[TextPiece]], None]

JOIN_SECONDS = 5.0
#: Shortest time between two publications of a generation's whole text.
PUBLISH_ALL_SECONDS = 0.5


@dataclass(eq=False, slots=True)
class RunningGeneration:
    """The choices of one request while the delivery thread fills them.

    Attributes:
        job: id of the job in hex; followers need it, and `attempt`, to assign its text.
        is_followed: each step's text is published.
        on_end: called once at the end, on the delivery thread; must return quickly.
        first_token: arrival of the first token, in seconds of `time.monotonic()`.
        error: the engine's error, if there was one.
    """

    choices: list[RunningChoice]
    job: str = ""
    attempt: int = 0
    is_followed: bool = False
    on_end: Callable[[RunningGeneration], None] = lambda generation: None
    handle: Handle | None = None
    first_token: float | None = None
    error: str | None = None
    _ended: threading.Event = field(default_factory=threading.Event)
    _published_all_at: float = float("-inf")

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until all choices have ended, at most this long; return whether they have."""
        return self._ended.wait(timeout_seconds)

    def may_publish_all(self) -> bool:
        """Return whether the whole text, which may be long, may be published again now."""
        now = time.monotonic()
        if now - self._published_all_at < PUBLISH_ALL_SECONDS:
            return False
        self._published_all_at = now
        return True

    def cancel(self) -> None:
        """End the choices that still run; their tokens so far count as used."""
        if self.handle is not None:
            self.handle.cancel()

    @property
    def was_cancelled(self) -> bool:
        """Whether a choice was cancelled or expired."""
        return any(
            choice.finish_reason in (FinishReason.CANCELLED, FinishReason.EXPIRED)
            for choice in self.choices
        )

    @property
    def completion_tokens(self) -> int:
        return sum(choice.tokens for choice in self.choices)

    @property
    def cached_tokens(self) -> int:
        return self.handle.cached_tokens if self.handle is not None else 0


class Delivery:
    """Submits requests to the engine, and delivers its tokens as text."""

    def __init__(
        self, engine: Engine, tokens: TokenBytes, *, publish: PublishText = lambda pieces: None
    ) -> None:
        self._engine = engine
        self._tokens = tokens
        self._publish = publish
        self._steps: SimpleQueue[Sequence[StepEvent] | RunningGeneration | None] = SimpleQueue()
        self._running: dict[str, RunningGeneration] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)

    def start(self) -> None:
        """Start the engine and the delivery of its tokens."""
        self._thread.start()
        self._engine.start(self._steps.put)

    def stop(self) -> None:
        """Stop the engine; running generations end as cancelled."""
        self._engine.stop()
        self._steps.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout=JOIN_SECONDS)

    def follow(self, generation: RunningGeneration) -> None:
        """Publish the text so far, and from now on the text of each step."""
        self._steps.put(generation)

    def submit(
        self,
        request: EngineRequest,
        *,
        stop: Sequence[str] = (),
        fence: str | None = None,
        job: str = "",
        attempt: int = 0,
        is_followed: bool = False,
        on_end: Callable[[RunningGeneration], None] = lambda generation: None,
    ) -> RunningGeneration:
        """Run a request; return its generation, which may already have ended.

        Args:
            fence: the code fence that ends the prompt; the text is the code up to the next fence.
            on_end: called once at the end, on the delivery thread; must return quickly.

        Raises:
            EngineRefused: the request is at fault.
            EngineStopping: the engine accepts no more requests.
        """
        sampling = request.sampling
        stops = StopStrings([*stop, fence] if fence else stop)
        choices = [
            RunningChoice(
                decoded=IncrementalText(self._tokens),
                scanner=FencedCode(StopScanner(stops)) if fence else StopScanner(stops),
                min_tokens=sampling.min_tokens,
                logprobs=ChoiceLogprobs(self._tokens) if sampling.logprobs is not None else None,
            )
            for _ in range(request.n)
        ]
        generation = RunningGeneration(
            choices, job=job, attempt=attempt, is_followed=is_followed, on_end=on_end
        )
        with self._lock:
            self._running[request.request_id] = generation
        try:
            generation.handle = self._engine.submit(request)
        except BaseException:  # any error: the engine will send no events for it
            with self._lock:
                del self._running[request.request_id]
            raise
        return generation

    def _run(self) -> None:
        while (item := self._steps.get()) is not None:
            if isinstance(item, RunningGeneration):
                self._start_following(item)
            else:
                self._process_step(item)

    def _start_following(self, generation: RunningGeneration) -> None:
        generation.is_followed = True
        for choice in generation.choices:
            choice.restart_pieces()
        self._publish_new_text([generation])

    def _process_step(self, events: Sequence[StepEvent]) -> None:
        now = time.monotonic()
        followed: dict[str, RunningGeneration] = {}
        for event in events:
            request_id = event.handle.request.request_id
            generation = self._running.get(request_id)
            if generation is None:
                continue
            if generation.is_followed:
                followed[request_id] = generation
            try:
                self._process_event(event, generation, now)
            except Exception:
                # Broad on purpose: one faulty generation must not stop all others.
                _log.exception("delivery of %s failed", request_id)
                self._fail(event, generation)
        if followed:
            self._publish_new_text(followed.values())

    def _publish_new_text(self, generations: Iterable[RunningGeneration]) -> None:
        try:
            pieces = [piece for one in generations for piece in self._new_pieces(one)]
            if pieces:
                self._publish(pieces)
        except Exception:  # broad on purpose: it must not stop the delivery of all generations
            _log.exception("cannot publish text")

    def _new_pieces(self, generation: RunningGeneration) -> Iterator[TextPiece]:
        for index, choice in enumerate(generation.choices):
            new = choice.next_piece()
            if new is not None:
                yield TextPiece(job=generation.job, attempt=generation.attempt, choice=index, **new)

    def _process_event(self, event: StepEvent, generation: RunningGeneration, now: float) -> None:
        choice = generation.choices[event.index]
        if choice.has_ended:
            return
        if event.token_ids and generation.first_token is None:
            generation.first_token = now
        self._add_tokens(choice, event)
        if event.error is not None:
            generation.error = event.error
        if choice.has_stopped:
            choice.end(FinishReason.STOP)
            event.handle.cancel(event.index, FinishReason.STOP)
        elif event.finish_reason is not None:
            choice.end(event.finish_reason)
        self._end_if_done(event, generation)

    def _add_tokens(self, choice: RunningChoice, event: StepEvent) -> None:
        """Add tokens up to a stop string; tokens after it are discarded and do not count."""
        for index, token_id in enumerate(event.token_ids):
            choice.add(token_id, event.logprobs[index] if event.logprobs else None)
            if choice.has_stopped:
                return

    def _fail(self, event: StepEvent, generation: RunningGeneration) -> None:
        generation.error = "the tokens could not be decoded"
        for choice in generation.choices:
            choice.finish_reason = choice.finish_reason or FinishReason.ERROR
        event.handle.cancel()
        self._end_if_done(event, generation)

    def _end_if_done(self, event: StepEvent, generation: RunningGeneration) -> None:
        if all(choice.has_ended for choice in generation.choices):
            with self._lock:
                self._running.pop(event.handle.request.request_id, None)
            generation.handle = event.handle
            generation._ended.set()
            try:
                generation.on_end(generation)
            except Exception:
                # Broad on purpose: all other generations must continue.
                _log.exception("the end of a generation was lost")
