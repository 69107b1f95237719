"""From the engine's tokens to finished answers: one thread for all jobs of this worker.

The engine's thread hands over each step's events in one piece and goes on. This thread turns ids
into text, watches for stop strings, and calls back once for each answer, at its end.
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
from worker.text.choice import Choice
from worker.text.fenced_code import FencedCode
from worker.text.incremental_text import IncrementalText
from worker.text.logprobs import Logprobs
from worker.text.stop_strings import StopScanner, StopStrings
from worker.text.token_bytes import TokenBytes

_log = logging.getLogger(__name__)

#: Takes what one step added to the texts that are followed; it must return quickly.
Tell = Callable[[Sequence[TextPiece]], None]

JOIN_SECONDS = 5.0
#: The whole text of an answer is told again at most this often.
TELL_ALL_SECONDS = 0.5


@dataclass(eq=False, slots=True)
class Answer:
    """The answers to one request, filled by the delivery thread; `wait` for the end.

    Attributes:
        job: id of its job in hex, and `attempt` of that: for those who follow its text.
        is_followed: its text is told as it is made.
        call_ended: told once of the end, on the delivery's thread: it must return quickly.
        first_token: when the first token came, by `time.monotonic()`.
        error: what went wrong in the engine, if something did.
    """

    choices: list[Choice]
    job: str = ""
    attempt: int = 0
    is_followed: bool = False
    call_ended: Callable[[Answer], None] = lambda answer: None
    handle: Handle | None = None
    first_token: float | None = None
    error: str | None = None
    _ended: threading.Event = field(default_factory=threading.Event)
    _told_all_at: float = float("-inf")

    def wait(self, timeout_seconds: float) -> bool:
        """Return whether all choices have ended; wait for it at most this long."""
        return self._ended.wait(timeout_seconds)

    def may_tell_all(self) -> bool:
        """Whether the whole text may be told now; followers ask for it, and it may be long."""
        now = time.monotonic()
        if now - self._told_all_at < TELL_ALL_SECONDS:
            return False
        self._told_all_at = now
        return True

    def cancel(self) -> None:
        """End what still runs; the tokens made until then stay counted."""
        if self.handle is not None:
            self.handle.cancel()

    @property
    def was_cancelled(self) -> bool:
        """Whether a choice was ended before its time."""
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
    """Stands between the jobs and the engine."""

    def __init__(
        self, engine: Engine, tokens: TokenBytes, *, tell: Tell = lambda pieces: None
    ) -> None:
        self._engine = engine
        self._tokens = tokens
        self._tell = tell
        self._steps: SimpleQueue[Sequence[StepEvent] | Answer | None] = SimpleQueue()
        self._answers: dict[str, Answer] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)

    def start(self) -> None:
        """Start the engine and deliver what it makes."""
        self._thread.start()
        self._engine.start(self._steps.put)

    def stop(self) -> None:
        """Stop the engine; what runs ends as cancelled."""
        self._engine.stop()
        self._steps.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout=JOIN_SECONDS)

    def follow(self, answer: Answer) -> None:
        """Tell the answer's text so far, and from then on what each step adds."""
        self._steps.put(answer)

    def submit(
        self,
        request: EngineRequest,
        *,
        stop: Sequence[str] = (),
        fence: str | None = None,
        job: str = "",
        attempt: int = 0,
        is_followed: bool = False,
        ended: Callable[[Answer], None] = lambda answer: None,
    ) -> Answer:
        """Run a request; its answer fills as the engine goes, and `ended` is told of its end.

        It may have ended before this returns.

        Args:
            fence: the prompt ends with it; what comes back is the code until it comes again.

        Raises:
            EngineRefused: the request is at fault.
            EngineStopping: the engine takes no request any more.
        """
        sampling = request.sampling
        stops = StopStrings([*stop, fence] if fence else stop)
        choices = [
            Choice(
                decoded=IncrementalText(self._tokens),
                scanner=FencedCode(StopScanner(stops)) if fence else StopScanner(stops),
                min_tokens=sampling.min_tokens,
                logprobs=Logprobs(self._tokens) if sampling.logprobs is not None else None,
            )
            for _ in range(request.n)
        ]
        answer = Answer(
            choices, job=job, attempt=attempt, is_followed=is_followed, call_ended=ended
        )
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
        while (item := self._steps.get()) is not None:
            if isinstance(item, Answer):
                self._begin_to_tell(item)
            else:
                self._take_step(item)

    def _begin_to_tell(self, answer: Answer) -> None:
        answer.is_followed = True
        for choice in answer.choices:
            choice.tell_again()
        self._tell_new_text([answer])

    def _take_step(self, events: Sequence[StepEvent]) -> None:
        now = time.monotonic()
        followed: dict[str, Answer] = {}
        for event in events:
            request_id = event.handle.request.request_id
            answer = self._answers.get(request_id)
            if answer is None:
                continue
            if answer.is_followed:
                followed[request_id] = answer
            try:
                self._take(event, answer, now)
            except Exception:
                # One answer's fault must not end the delivery of all others.
                _log.exception("delivery of %s failed", request_id)
                self._fail(event, answer)
        if followed:
            self._tell_new_text(followed.values())

    def _tell_new_text(self, answers: Iterable[Answer]) -> None:
        try:
            pieces = [piece for answer in answers for piece in self._new_pieces(answer)]
            if pieces:
                self._tell(pieces)
        except Exception:  # it must not end the delivery of all answers
            _log.exception("text could not be told")

    def _new_pieces(self, answer: Answer) -> Iterator[TextPiece]:
        for index, choice in enumerate(answer.choices):
            new = choice.take_new()
            if new is not None:
                yield TextPiece(job=answer.job, attempt=answer.attempt, choice=index, **new)

    def _take(self, event: StepEvent, answer: Answer, now: float) -> None:
        choice = answer.choices[event.index]
        if choice.has_ended:
            return
        if event.token_ids and answer.first_token is None:
            answer.first_token = now
        self._add_tokens(choice, event)
        if event.error is not None:
            answer.error = event.error
        if choice.has_stopped:
            choice.end(FinishReason.STOP)
            event.handle.cancel(event.index, FinishReason.STOP)
        elif event.finish_reason is not None:
            choice.end(event.finish_reason)
        self._end_if_done(event, answer)

    def _add_tokens(self, choice: Choice, event: StepEvent) -> None:
        """Add tokens one by one: those after a stop string were made in vain and do not count."""
        for place, token_id in enumerate(event.token_ids):
            choice.add(token_id, event.logprobs[place] if event.logprobs else None)
            if choice.has_stopped:
                return

    def _fail(self, event: StepEvent, answer: Answer) -> None:
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
            try:
                answer.call_ended(answer)
            except Exception:
                # Broad on purpose: the answers of all others must go on.
                _log.exception("the end of an answer could not be handed on")
