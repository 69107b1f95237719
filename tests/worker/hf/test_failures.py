"""What goes wrong hits the one it belongs to: bad requests, cancels, deadlines, failing steps."""

from __future__ import annotations

import functools
import gc
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.worker.hf.tiny import (
    CONTEXT_LENGTH,
    POISON,
    VOCAB_SIZE,
    Receiver,
    answer,
    running,
    until,
)
from worker.engine import (
    EngineRefused,
    EngineRequest,
    EngineStopping,
    FinishReason,
    Handle,
    Sampling,
)
from worker.hf_engine import HFEngine


def intercept(engine: HFEngine, look: Callable[[torch.Tensor], None]) -> None:
    """Call `look` with the input ids of every forward pass; what it raises fails the step."""
    model = engine.loaded.model
    forward = model.forward

    @functools.wraps(forward)
    def watched(*args: Any, **kwargs: Any) -> Any:
        look(kwargs["input_ids"])
        return forward(*args, **kwargs)

    model.forward = watched


def fail_on_poison(ids: torch.Tensor) -> None:
    if bool((ids == POISON).any()):
        raise RuntimeError("poisoned")


@pytest.mark.parametrize(
    ("request_", "fault"),
    [
        (EngineRequest("x", [], 5), "empty"),
        (EngineRequest("x", [VOCAB_SIZE], 5), "ids"),
        (EngineRequest("x", [-1], 5), "ids"),
        (EngineRequest("x", ["a"], 5), "integers"),  # type: ignore[list-item]  # the point
        (EngineRequest("x", [1], 0), "max_tokens"),
        (EngineRequest("x", [1] * 100, CONTEXT_LENGTH), "more than"),
        (EngineRequest("x", [1], 5, n=0), "n must"),
        (EngineRequest("x", [1], 5, n=99), "n must"),
        (EngineRequest("x", [1], 5, weight=0), "weight"),
        (EngineRequest("x", [1], 5, Sampling(temperature=float("nan"))), "temperature"),
        (EngineRequest("x", [1], 5, Sampling(top_p=0)), "top_p"),
        (EngineRequest("x", [1], 5, Sampling(repetition_penalty=0)), "repetition_penalty"),
        (EngineRequest("x", [1], 5, Sampling(logprobs=99)), "logprobs"),
    ],
)
def test_a_bad_request_is_refused_and_hurts_nobody(
    model: Any, request_: EngineRequest, fault: str
) -> None:
    with running(model) as (engine, receiver):
        good = engine.submit(EngineRequest("good", [1, 2], 8))
        with pytest.raises(EngineRefused, match=fault):
            engine.submit(request_)
        receiver.wait(good)

        assert engine.stats().restarts == 0
        assert receiver.tokens["good", 0] == answer(model, [1, 2], 8)


def test_an_id_is_refused_while_its_request_runs_and_free_afterwards(model: Any) -> None:
    with running(model) as (engine, receiver):
        first = engine.submit(EngineRequest("x", [1], 400, Sampling(ignore_eos=True)))
        with pytest.raises(EngineRefused, match="id x"):
            engine.submit(EngineRequest("x", [1], 5))
        first.cancel()
        receiver.wait(first)
        receiver.ends.clear()

        receiver.wait(engine.submit(EngineRequest("x", [1], 5)))


def test_a_request_as_long_as_the_cache_runs_and_a_longer_one_is_refused(model: Any) -> None:
    with running(model, cache_blocks=8, page_size=16) as (engine, receiver):
        assert engine.context_length == 128
        with pytest.raises(EngineRefused):
            engine.submit(EngineRequest("x", [1] * 100, 29))
        fits = EngineRequest("y", [1] * 100, 28, Sampling(ignore_eos=True))
        receiver.wait(engine.submit(fits))

    assert len(receiver.tokens["y", 0]) == 28


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
        until(lambda: engine.stats().running == 0)

    ends = [receiver.ends["x", i] for i in range(3)]
    assert ends == [FinishReason.STOP, FinishReason.CANCELLED, FinishReason.STOP]
    assert len(receiver.tokens["x", 1]) < len(receiver.tokens["x", 2])


@pytest.mark.parametrize("index", [0, 1, 2])
def test_one_of_n_may_be_cancelled_before_the_prompt_is_computed(model: Any, index: int) -> None:
    prompt = list(range(1, 150))
    expected = answer(model, prompt, 10)

    with running(model, max_batch_tokens=32) as (engine, receiver):
        handle = engine.submit(EngineRequest("x", prompt, 10, n=3))
        handle.cancel(index)
        receiver.wait(handle)
        until(lambda: engine.stats().running == 0)
        assert engine.stats().cache_use == 0

    for i in range(3):
        assert receiver.tokens["x", i] == ([] if i == index else expected)


def test_a_receiver_may_cancel_from_within_a_delivery(model: Any) -> None:
    with running(model) as (engine, receiver):
        receiver.on_event = lambda event: event.handle.cancel(event.index, FinishReason.STOP)
        receiver.wait(engine.submit(EngineRequest("x", [1], 400, Sampling(ignore_eos=True))))

    assert receiver.ends["x", 0] is FinishReason.STOP
    assert 1 <= len(receiver.tokens["x", 0]) <= 2


def test_cancelling_all_while_admissions_are_stopped_lets_the_next_in(model: Any) -> None:
    sampling = Sampling(ignore_eos=True)
    stopped, cancelled = threading.Event(), threading.Event()
    with running(model, cache_blocks=12, max_sequences=8) as (engine, receiver):

        def hold(ids: Any) -> None:
            if engine.loop.scheduler.block_new_requests:
                stopped.set()
                cancelled.wait(20)

        intercept(engine, hold)
        handles = [engine.submit(EngineRequest(f"r{i}", [i] * 20, 150, sampling)) for i in range(6)]
        assert stopped.wait(20)
        for handle in handles:
            handle.cancel()
        cancelled.set()

        receiver.wait(engine.submit(EngineRequest("next", [1], 5)))


def test_a_cancel_that_overtakes_its_request_leaves_nothing_behind(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(model) as (engine, receiver):
        late: list[Any] = []
        feed = engine.loop.feed
        monkeypatch.setattr(engine.loop, "feed", late.extend)
        handle = engine.submit(EngineRequest("x", [1], 50, Sampling(ignore_eos=True)))
        handle.cancel()
        receiver.wait(handle)
        steps = engine.stats().steps
        feed(late)
        until(lambda: engine.loop._manager.input_queue.empty())
        until(lambda: not engine.loop.scheduler.waiting_requests)
        assert engine.stats().steps == steps


def test_deadlines_end_requests_that_run_and_that_wait(model: Any) -> None:
    sampling = Sampling(ignore_eos=True)
    with running(model, max_sequences=1) as (engine, receiver):
        intercept(engine, lambda ids: time.sleep(0.01))  # 400 tokens take four seconds
        late = time.monotonic() + 2
        runs = engine.submit(EngineRequest("runs", [1], 400, sampling, deadline=late))
        waits = engine.submit(EngineRequest("waits", [1], 5, deadline=late))
        receiver.wait(runs, waits)
        receiver.wait(engine.submit(EngineRequest("next", [1], 5)))

    assert receiver.ends["runs", 0] is receiver.ends["waits", 0] is FinishReason.EXPIRED
    assert receiver.tokens["runs", 0] and not receiver.tokens["waits", 0]


def test_a_failing_step_fails_the_guilty_and_the_innocent_go_on_exactly(model: Any) -> None:
    made = {f"r{i}": [i + 1, i + 2, i + 3] for i in range(9)}
    expected = {name: answer(model, prompt, 60) for name, prompt in made.items()}

    with running(model) as (engine, receiver):
        intercept(engine, fail_on_poison)
        handles = [engine.submit(EngineRequest(name, p, 60)) for name, p in made.items()]
        receiver.wait_for_tokens(("r1", 0), 3)
        guilty = engine.submit(EngineRequest("guilty", [5, POISON, 5], 10))
        receiver.wait(guilty, *handles)
        restarts = engine.stats().restarts

    assert receiver.ends["guilty", 0] is FinishReason.ERROR
    assert "poisoned" in (receiver.errors["guilty", 0] or "")
    assert {name: receiver.tokens[name, 0] for name in made} == expected
    assert 2 <= restarts <= 8


def test_a_failure_that_does_not_come_again_fails_nobody(model: Any) -> None:
    steps = iter(range(10_000))

    def fail_once(ids: torch.Tensor) -> None:
        if next(steps) == 7:
            raise ValueError("a cosmic ray")

    prompt = [4, 9, 2]
    sampling = Sampling(temperature=0.8, seed=5, frequency_penalty=0.3, ignore_eos=True)
    with running(model) as (engine, receiver):
        receiver.wait(engine.submit(EngineRequest("calm", prompt, 30, sampling)))
        intercept(engine, fail_once)
        receiver.wait(engine.submit(EngineRequest("hit", prompt, 30, sampling)))
        assert engine.stats().restarts == 1
        assert engine.is_healthy

    assert receiver.tokens["hit", 0] == receiver.tokens["calm", 0]


def test_a_lack_of_memory_shrinks_the_batch_and_fails_nobody(model: Any) -> None:
    def exhaust(ids: torch.Tensor) -> None:
        if ids.shape[1] > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with running(model, max_sequences=16, max_batch_tokens=64) as (engine, receiver):
        intercept(engine, exhaust)
        handles = [engine.submit(EngineRequest(f"r{i}", [i, i, i], 9)) for i in range(12)]
        receiver.wait(*handles)
        assert engine.is_healthy
        assert engine.loop.scheduler.max_requests_per_batch == 4

    for number in range(12):
        assert receiver.tokens[f"r{number}", 0] == answer(model, [number] * 3, 9)


def test_a_device_error_makes_the_engine_unhealthy(model: Any) -> None:
    def break_device(ids: torch.Tensor) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with running(model) as (engine, receiver):
        intercept(engine, break_device)
        handle = engine.submit(EngineRequest("x", [1], 5))
        until(lambda: not engine.is_healthy)
        with pytest.raises(EngineStopping):
            engine.submit(EngineRequest("y", [1], 5))
        handle.cancel()
        receiver.wait(handle)


def test_a_step_that_hangs_makes_the_engine_unhealthy(model: Any) -> None:
    is_over = threading.Event()
    with running(model, stall_seconds=0.3) as (engine, receiver):
        intercept(engine, lambda ids: bool(is_over.wait(20)) and None)
        handle = engine.submit(EngineRequest("x", [1], 5))
        until(lambda: not engine.is_healthy)
        handle.cancel()
        receiver.wait(handle)
        is_over.set()


def test_an_engine_that_always_fails_is_unhealthy_soon(model: Any) -> None:
    def fail(ids: torch.Tensor) -> None:
        raise ValueError("always")

    with running(model) as (engine, _):
        intercept(engine, fail)
        for number in range(40):
            engine.submit(EngineRequest(f"r{number}", [1], 5))
        until(lambda: not engine.is_healthy)


def test_stop_ends_what_runs_as_cancelled_and_refuses_the_rest(model: Any) -> None:
    with running(model, max_sequences=2) as (engine, receiver):
        handles = [
            engine.submit(EngineRequest(f"r{i}", [1], 400, Sampling(ignore_eos=True)))
            for i in range(5)
        ]
        receiver.wait_for_tokens(("r0", 0), 2)
        engine.stop()
        engine.stop()
        receiver.wait(*handles)
        with pytest.raises(EngineStopping):
            engine.submit(EngineRequest("x", [1], 5))

    assert set(receiver.ends.values()) == {FinishReason.CANCELLED}


def test_a_receiver_that_raises_does_not_stop_the_engine(model: Any) -> None:
    def fail(event: object) -> None:
        raise LookupError("the receiver's own fault")

    with running(model) as (engine, receiver):
        receiver.on_event = fail  # type: ignore[assignment]  # takes any event
        receiver.wait(engine.submit(EngineRequest("x", [1], 5)))
        assert engine.stats().restarts == 0


def test_a_thousand_requests_of_all_kinds_end_once_each_and_leave_nothing(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What pytest keeps of logged errors holds all that their frames held.
    monkeypatch.setattr(logging.getLogger("worker.hf.watch"), "disabled", True)
    draw = random.Random(20)

    def sampling() -> Sampling:
        return Sampling(
            temperature=draw.choice([0.0, 0.0, 0.7, 1.2]),
            top_p=draw.choice([1.0, 0.9]),
            top_k=draw.choice([0, 5]),
            seed=draw.randrange(100),
            frequency_penalty=draw.choice([0.0, 0.0, 0.5]),
            logprobs=draw.choice([None, None, 3]),
        )

    def request(number: int) -> EngineRequest:
        prompt = [draw.randrange(VOCAB_SIZE - 1) for _ in range(draw.choice([1, 5, 20, 60]))]
        if number % 125 == 50:
            prompt.append(POISON)
        return EngineRequest(
            f"r{number}",
            prompt,
            max_tokens=draw.randint(1, 24),
            sampling=sampling(),
            n=draw.choice([1, 1, 1, 3]),
            account=f"a{number % 5}",
            weight=draw.choice([1.0, 2.0]),
            is_bulk=draw.random() < 0.3,
            deadline=time.monotonic() + draw.random() if draw.random() < 0.1 else None,
        )

    def run(engine: HFEngine, receiver: Receiver, numbers: range) -> None:
        """Run requests to their ends, look at each, and forget them."""
        handles = []
        for number in numbers:
            handles.append(engine.submit(request(number)))
            if number % 50 == 0:
                with pytest.raises(EngineRefused):
                    engine.submit(EngineRequest("bad", [VOCAB_SIZE + 5], 5))
            if draw.random() < 0.15:
                victim = draw.choice(handles)
                victim.cancel(draw.choice([None, 0, victim.request.n - 1]))
            if number % 40 == 39:
                receiver.wait(*handles[: number - numbers.start - 30])
        receiver.wait(*handles)
        until(lambda: engine.stats().running == engine.stats().waiting == 0)
        until(lambda: engine.stats().cache_use == 0)
        check_ends(handles, receiver)
        receiver.forget()

    with running(
        model, cache_blocks=40, max_sequences=16, max_batch_tokens=64, prefix_sharing=True
    ) as (engine, receiver):
        intercept(engine, fail_on_poison)
        kept = []
        for numbers in (range(400), range(400, 700), range(700, 1000)):
            run(engine, receiver, numbers)
            kept.append(objects())
        assert engine.is_healthy
        assert not engine.loop._cache.cache_allocators["full_attention"].block_table

    # One thing kept of each of the last 300 requests would be 300 more.
    assert kept[2] - kept[1] < 100, kept


def check_ends(handles: list[Handle], receiver: Receiver) -> None:
    failed = {key for key, reason in receiver.ends.items() if reason is FinishReason.ERROR}
    poisoned = {h.request.request_id for h in handles if POISON in h.request.prompt_ids}
    assert {name for name, _ in failed} <= poisoned
    assert len(receiver.ends) == sum(h.request.n for h in handles)
    for handle in handles:
        for index in range(handle.request.n):
            key = (handle.request.request_id, index)
            assert len(receiver.tokens[key]) <= handle.request.max_tokens
            if handle.request.sampling.logprobs is not None:
                assert len(receiver.logprobs[key]) == len(receiver.tokens[key])


def objects() -> int:
    """Return how many objects and entries of containers live, tensors among them."""
    gc.collect()
    containers = (dict, list, set, deque)
    return sum(1 + (len(o) if type(o) in containers else 0) for o in gc.get_objects())
