from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from tests.support.polling import wait_until
from worker.engine.echo import EchoEngine
from worker.engine.protocol import (
    EngineRefused,
    EngineRequest,
    EngineStopping,
    FinishReason,
    Sampling,
    StepEvent,
)


class Sink:
    """Collects the events of an engine."""

    def __init__(self) -> None:
        self.events: list[StepEvent] = []
        self._lock = threading.Lock()

    def __call__(self, events: Sequence[StepEvent]) -> None:
        with self._lock:
            self.events += events

    def ids(self, request_id: str, index: int = 0) -> list[int]:
        return [i for e in self._of(request_id, index) for i in e.token_ids]

    def ends(self, request_id: str, index: int = 0) -> list[FinishReason]:
        return [e.finish_reason for e in self._of(request_id, index) if e.finish_reason]

    def _of(self, request_id: str, index: int) -> list[StepEvent]:
        with self._lock:
            return [
                e
                for e in self.events
                if e.handle.request.request_id == request_id and e.index == index
            ]


def request(name: str = "a", prompt: Sequence[int] = (1, 2, 3), **values: object) -> EngineRequest:
    return EngineRequest(name, prompt, **{"max_tokens": 10, **values})  # type: ignore[arg-type]


def test_the_completion_is_the_prompt() -> None:
    engine, sink = EchoEngine(), Sink()
    engine.start(sink)
    engine.submit(request())
    wait_until(lambda: sink.ends("a"), 20)
    engine.stop()

    assert sink.ids("a") == [1, 2, 3]
    assert sink.ends("a") == [FinishReason.STOP]


def test_max_tokens_cuts_the_completion() -> None:
    engine, sink = EchoEngine(), Sink()
    engine.start(sink)
    engine.submit(request(max_tokens=2))
    engine.submit(request("b", max_tokens=7, sampling=Sampling(ignore_eos=True)))
    wait_until(lambda: sink.ends("a") and sink.ends("b"), 20)
    engine.stop()

    assert (sink.ids("a"), sink.ends("a")) == ([1, 2], [FinishReason.LENGTH])
    assert (sink.ids("b"), sink.ends("b")) == ([1, 2, 3, 1, 2, 3, 1], [FinishReason.LENGTH])


def test_each_of_n_sequences_ends_once_also_when_cancelled() -> None:
    engine, sink = EchoEngine(tokens_per_second=20), Sink()
    engine.start(sink)
    handle = engine.submit(request(prompt=range(1, 90), n=3, max_tokens=100))
    wait_until(lambda: sink.ids("a"), 20)

    handle.cancel(1)
    handle.cancel(1)
    wait_until(lambda: sink.ends("a", 1), 20)
    handle.cancel()
    wait_until(lambda: handle.is_finished, 20)
    engine.stop()

    assert [sink.ends("a", i) for i in range(3)] == [[FinishReason.CANCELLED]] * 3


def test_a_slow_engine_gives_one_token_a_step() -> None:
    engine, sink = EchoEngine(tokens_per_second=200), Sink()
    engine.start(sink)
    engine.submit(request(prompt=range(1, 20), max_tokens=50))
    wait_until(lambda: sink.ends("a"), 20)
    engine.stop()

    assert {len(event.token_ids) for event in sink.events} == {1}


@pytest.mark.parametrize("bad", [{"prompt": ()}, {"max_tokens": 0}, {"max_tokens": 9000}], ids=str)
def test_a_request_that_cannot_run_is_refused(bad: dict[str, object]) -> None:
    engine = EchoEngine(context_length=100)
    engine.start(Sink())

    with pytest.raises(EngineRefused):
        engine.submit(request(**bad))  # type: ignore[arg-type]
    engine.stop()

    with pytest.raises(EngineStopping):
        engine.submit(request())


def test_stopping_ends_running_requests_as_cancelled() -> None:
    engine, sink = EchoEngine(tokens_per_second=1), Sink()
    engine.start(sink)
    engine.submit(request())
    engine.stop()

    assert sink.ends("a") == [FinishReason.CANCELLED]


def test_stopping_does_not_wait_for_the_end_of_a_slow_step() -> None:
    engine, sink = EchoEngine(tokens_per_second=0.01), Sink()
    engine.start(sink)
    engine.submit(request())
    wait_until(lambda: sink.ids("a"), 20)
    engine.stop()

    assert sink.ends("a") == [FinishReason.CANCELLED]
