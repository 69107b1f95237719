"""The echo engine repeats the prompt and keeps the rules of the `Engine` protocol."""

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


class Receiver:
    """Collects the events of an engine."""

    def __init__(self) -> None:
        self.events: list[StepEvent] = []
        self._lock = threading.Lock()

    def __call__(self, events: Sequence[StepEvent]) -> None:
        with self._lock:
            self.events += events

    def token_ids(self, request_id: str, index: int = 0) -> list[int]:
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


def make_request(
    name: str = "a", prompt: Sequence[int] = (1, 2, 3), **values: object
) -> EngineRequest:
    return EngineRequest(name, prompt, **{"max_tokens": 10, **values})  # type: ignore[arg-type]


def test_the_completion_is_the_prompt() -> None:
    engine, receiver = EchoEngine(), Receiver()
    engine.start(receiver)
    engine.submit(make_request())
    wait_until(lambda: receiver.ends("a"), 20)
    engine.stop()

    assert receiver.token_ids("a") == [1, 2, 3]
    assert receiver.ends("a") == [FinishReason.STOP]


def test_max_tokens_cuts_the_completion() -> None:
    engine, receiver = EchoEngine(), Receiver()
    engine.start(receiver)
    engine.submit(make_request(max_tokens=2))
    engine.submit(make_request("b", max_tokens=7, sampling=Sampling(ignore_eos=True)))
    wait_until(lambda: receiver.ends("a") and receiver.ends("b"), 20)
    engine.stop()

    assert (receiver.token_ids("a"), receiver.ends("a")) == ([1, 2], [FinishReason.LENGTH])
    assert (receiver.token_ids("b"), receiver.ends("b")) == (
        [1, 2, 3, 1, 2, 3, 1],
        [FinishReason.LENGTH],
    )


def test_each_of_n_cancelled_sequences_ends_once() -> None:
    engine, receiver = EchoEngine(tokens_per_second=20), Receiver()
    engine.start(receiver)
    handle = engine.submit(make_request(prompt=range(1, 90), n=3, max_tokens=100))
    wait_until(lambda: receiver.token_ids("a"), 20)

    handle.cancel(1)
    handle.cancel(1)
    wait_until(lambda: receiver.ends("a", 1), 20)
    handle.cancel()
    wait_until(lambda: handle.is_finished, 20)
    engine.stop()

    assert [receiver.ends("a", i) for i in range(3)] == [[FinishReason.CANCELLED]] * 3


def test_a_slow_engine_gives_one_token_a_step() -> None:
    engine, receiver = EchoEngine(tokens_per_second=200), Receiver()
    engine.start(receiver)
    engine.submit(make_request(prompt=range(1, 20), max_tokens=50))
    wait_until(lambda: receiver.ends("a"), 20)
    engine.stop()

    assert {len(event.token_ids) for event in receiver.events} == {1}


@pytest.mark.parametrize("bad", [{"prompt": ()}, {"max_tokens": 0}, {"max_tokens": 9000}], ids=str)
def test_a_request_that_cannot_run_is_refused(bad: dict[str, object]) -> None:
    engine = EchoEngine(context_length=100)
    engine.start(Receiver())

    with pytest.raises(EngineRefused):
        engine.submit(make_request(**bad))  # type: ignore[arg-type]
    engine.stop()

    with pytest.raises(EngineStopping):
        engine.submit(make_request())


def test_stopping_ends_running_requests_as_cancelled() -> None:
    engine, receiver = EchoEngine(tokens_per_second=1), Receiver()
    engine.start(receiver)
    engine.submit(make_request())
    engine.stop()

    assert receiver.ends("a") == [FinishReason.CANCELLED]


def test_stopping_does_not_wait_for_the_end_of_a_slow_step() -> None:
    engine, receiver = EchoEngine(tokens_per_second=0.01), Receiver()
    engine.start(receiver)
    engine.submit(make_request())
    wait_until(lambda: receiver.token_ids("a"), 20)
    engine.stop()

    assert receiver.ends("a") == [FinishReason.CANCELLED]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_whose_thread_has_died_is_unhealthy() -> None:
    def fail(events: Sequence[StepEvent]) -> None:
        raise RuntimeError("a fault of the engine's thread")

    engine = EchoEngine()
    assert engine.is_healthy
    engine.start(fail)
    assert engine.is_healthy

    engine.submit(make_request())

    wait_until(lambda: not engine.is_healthy)
