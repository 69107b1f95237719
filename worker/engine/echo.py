"""An engine without a model: every completion repeats its prompt.

It is deterministic and runs at a set pace. Tests use it, and so do measurements of everything but
the model.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from worker.engine.protocol import (
    Deliver,
    EngineRefused,
    EngineRequest,
    EngineStats,
    EngineStopping,
    FinishReason,
    Handle,
    ObserveStep,
    Step,
    StepEvent,
)

#: How long `stop` waits for the engine's thread to end.
STOP_JOIN_SECONDS = 5.0
#: Longest wait of an idle engine before it checks again whether to stop.
IDLE_SECONDS = 0.5


@dataclass(eq=False, slots=True)
class _Echo:
    """One sequence, and how many tokens it has generated."""

    handle: Handle
    index: int
    generated: int = 0


class EchoEngine:
    """Generate each sequence's prompt ids again, one a step, then end it.

    Args:
        tokens_per_second: pace of each sequence; 0 generates a whole completion in one step.
        context_length: prompt plus generated tokens that one sequence may have.
    """

    def __init__(self, *, tokens_per_second: float = 0.0, context_length: int = 8192) -> None:
        self._step_seconds = 1 / tokens_per_second if tokens_per_second else 0.0
        self._context_length = context_length
        self._running: dict[tuple[str, int], _Echo] = {}
        self._ends: list[StepEvent] = []
        self._lock = threading.Lock()
        self._work = threading.Event()
        self._stopping = threading.Event()
        self._steps = 0
        self._generated = 0
        self._thread = threading.Thread(target=self._run, name="echo-engine", daemon=True)
        self._deliver: Deliver | None = None
        self._observe: ObserveStep = lambda step: None

    @property
    def context_length(self) -> int:
        return self._context_length

    @property
    def is_healthy(self) -> bool:
        return self._deliver is None or self._thread.is_alive()

    def observe_steps(self, observe: ObserveStep) -> None:
        self._observe = observe

    def start(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._thread.start()

    def submit(self, request: EngineRequest) -> Handle:
        if not request.prompt_ids or request.max_tokens < 1:
            raise EngineRefused("the prompt is empty or max_tokens is under 1")
        if len(request.prompt_ids) + request.max_tokens > self._context_length:
            raise EngineRefused(f"prompt and completion are over {self._context_length} tokens")
        handle = Handle(request, self._cancel)
        with self._lock:
            if self._stopping.is_set():
                raise EngineStopping("the engine is stopping")
            if (request.request_id, 0) in self._running:
                raise EngineRefused(f"{request.request_id} is running already")
            for index in range(request.n):
                self._running[request.request_id, index] = _Echo(handle, index)
        self._work.set()
        return handle

    def stats(self) -> EngineStats:
        return EngineStats(
            running=len(self._running), steps=self._steps, generated_tokens=self._generated
        )

    def stop(self) -> None:
        with self._lock:
            self._stopping.set()
            for echo in list(self._running.values()):
                self._end(echo, FinishReason.CANCELLED)
        self._work.set()
        if self._thread.is_alive():
            self._thread.join(timeout=STOP_JOIN_SECONDS)

    def _cancel(self, handle: Handle, index: int | None, reason: FinishReason) -> None:
        indexes = range(handle.request.n) if index is None else [index]
        with self._lock:
            for one in indexes:
                if echo := self._running.get((handle.request.request_id, one)):
                    self._end(echo, reason)
        self._work.set()

    def _end(self, echo: _Echo, reason: FinishReason) -> None:
        """End a running sequence; its event follows with the next step. Needs the lock."""
        del self._running[echo.handle.request.request_id, echo.index]
        echo.handle.ended.add(echo.index)
        self._ends.append(StepEvent(echo.handle, echo.index, finish_reason=reason))

    def _run(self) -> None:
        while True:
            began = time.perf_counter()
            with self._lock:
                events = self._step()
                is_idle = not self._running
                if is_idle and self._stopping.is_set() and not events:
                    return
            if events and self._deliver is not None:
                self._deliver(events)
                tokens = sum(len(event.token_ids) for event in events)
                self._observe(Step(time.perf_counter() - began, len(events), tokens))
            if is_idle:
                self._work.wait(IDLE_SECONDS)
                self._work.clear()
            elif self._step_seconds:
                # Subtract the time of delivery: a client must measure the pace that was asked for.
                spent = time.perf_counter() - began
                self._stopping.wait(max(0.0, self._step_seconds - spent))

    def _step(self) -> list[StepEvent]:
        events, self._ends = self._ends, []
        for key, echo in list(self._running.items()):
            event = self._advance(echo)
            if event.finish_reason is not None:
                del self._running[key]
                echo.handle.ended.add(echo.index)
            events.append(event)
        self._steps += bool(events)
        return events

    def _advance(self, echo: _Echo) -> StepEvent:
        request = echo.handle.request
        prompt = request.prompt_ids
        length = request.max_tokens
        if not request.sampling.ignore_eos:
            length = min(length, len(prompt))
        count = length - echo.generated if not self._step_seconds else 1
        ids = tuple(prompt[i % len(prompt)] for i in range(echo.generated, echo.generated + count))
        echo.generated += count
        self._generated += count
        reason = None
        if echo.generated >= length:
            reason = FinishReason.LENGTH if length == request.max_tokens else FinishReason.STOP
        return StepEvent(echo.handle, echo.index, ids, reason)
