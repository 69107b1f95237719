"""A cancel or a deadline ends its sequences once, at any moment."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.support.engine.running_engine import intercept, running, slow_down
from tests.support.engine.tiny_model import complete
from tests.support.polling import wait_until
from worker.engine.protocol import EngineRequest, FinishReason, Sampling


def test_cancel_ends_a_handle_at_once_and_only_once(model: Any) -> None:
    with running(model) as (engine, receiver):
        handle = engine.submit(EngineRequest("x", [1], 400, Sampling(ignore_eos=True), n=3))
        receiver.wait_for_tokens(("x", 2), 2)
        handle.cancel(1)
        handle.cancel(1, FinishReason.STOP)
        assert handle.ended == {1}
        receiver.wait_for_tokens(("x", 2), len(receiver.tokens["x", 2]) + 5)
        handle.cancel(reason=FinishReason.STOP)
        assert handle.is_finished
        handle.cancel()
        receiver.wait(handle)
        wait_until(lambda: engine.stats().running == 0)

    ends = [receiver.ends["x", i] for i in range(3)]
    assert ends == [FinishReason.STOP, FinishReason.CANCELLED, FinishReason.STOP]
    assert len(receiver.tokens["x", 1]) < len(receiver.tokens["x", 2])


@pytest.mark.parametrize("index", [0, 1, 2])
def test_one_of_n_may_be_cancelled_before_the_prompt_is_computed(model: Any, index: int) -> None:
    prompt = list(range(1, 150))
    expected = complete(model, prompt, 10)

    with running(model, max_batch_tokens=32) as (engine, receiver):
        handle = engine.submit(EngineRequest("x", prompt, 10, n=3))
        handle.cancel(index)
        receiver.wait(handle)
        wait_until(lambda: engine.stats().running == 0)
        assert engine.stats().cache_use == 0

    for i in range(3):
        assert receiver.tokens["x", i] == ([] if i == index else expected)


def test_a_receiver_may_cancel_from_within_a_delivery(model: Any) -> None:
    with running(model) as (engine, receiver):
        receiver.on_event = lambda event: event.handle.cancel(event.index, FinishReason.STOP)
        receiver.wait(engine.submit(EngineRequest("x", [1], 400, Sampling(ignore_eos=True))))

    assert receiver.ends["x", 0] is FinishReason.STOP
    assert 1 <= len(receiver.tokens["x", 0]) <= 2


def test_cancelling_all_requests_ends_a_block_of_admissions(
    model: Any,
) -> None:
    sampling = Sampling(ignore_eos=True)
    blocked, cancelled = threading.Event(), threading.Event()
    with running(model, cache_blocks=12, max_sequences=8) as (engine, receiver):

        def hold(ids: Any) -> None:
            if engine.loop.scheduler.block_new_requests:
                blocked.set()
                cancelled.wait(20)

        intercept(engine, hold)
        handles = [engine.submit(EngineRequest(f"r{i}", [i] * 20, 150, sampling)) for i in range(6)]
        assert blocked.wait(20)
        for handle in handles:
            handle.cancel()
        cancelled.set()

        receiver.wait(engine.submit(EngineRequest("next", [1], 5)))


def test_a_request_that_is_queued_after_its_cancel_is_dropped(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(model) as (engine, receiver):
        delayed: list[Any] = []
        enqueue = engine.loop.enqueue
        monkeypatch.setattr(engine.loop, "enqueue", delayed.extend)
        handle = engine.submit(EngineRequest("x", [1], 50, Sampling(ignore_eos=True)))
        handle.cancel()
        receiver.wait(handle)
        steps = engine.stats().steps
        enqueue(delayed)
        wait_until(lambda: engine.loop._manager.input_queue.empty())
        wait_until(lambda: not engine.loop.scheduler.waiting_requests)
        assert engine.stats().steps == steps


def test_deadlines_end_requests_that_run_and_that_wait(model: Any) -> None:
    sampling = Sampling(ignore_eos=True)
    with running(model, max_sequences=1) as (engine, receiver):
        slow_down(engine, 0.01)  # 400 tokens take at least four seconds
        deadline = time.monotonic() + 2
        runs = engine.submit(EngineRequest("runs", [1], 400, sampling, deadline=deadline))
        waits = engine.submit(EngineRequest("waits", [1], 5, deadline=deadline))
        receiver.wait(runs, waits)
        receiver.wait(engine.submit(EngineRequest("next", [1], 5)))

    assert receiver.ends["runs", 0] is receiver.ends["waits", 0] is FinishReason.EXPIRED
    assert receiver.tokens["runs", 0] and not receiver.tokens["waits", 0]
