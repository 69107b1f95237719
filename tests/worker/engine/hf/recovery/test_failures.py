"""A failing step, device or receiver affects only the request at fault."""

from __future__ import annotations

import gc
import logging
import random
import threading
import time
from collections import deque
from typing import Any

import pytest
import torch

from tests.support.engine.running_engine import Receiver, intercept, running
from tests.support.engine.tiny_model import POISON, VOCAB_SIZE, complete
from tests.support.polling import wait_until
from worker.engine.hf.engine import HFEngine
from worker.engine.protocol import (
    EngineRefused,
    EngineRequest,
    EngineStopping,
    FinishReason,
    Handle,
    Sampling,
)


def fail_on_poison(ids: torch.Tensor) -> None:
    if bool((ids == POISON).any()):
        raise RuntimeError("poisoned")


def test_a_failing_step_fails_the_guilty_and_the_innocent_continue_exactly(model: Any) -> None:
    prompts = {f"r{i}": [i + 1, i + 2, i + 3] for i in range(9)}
    expected = {name: complete(model, prompt, 60) for name, prompt in prompts.items()}

    with running(model) as (engine, receiver):
        intercept(engine, fail_on_poison)
        handles = [engine.submit(EngineRequest(name, p, 60)) for name, p in prompts.items()]
        receiver.wait_for_tokens(("r1", 0), 3)
        guilty = engine.submit(EngineRequest("guilty", [5, POISON, 5], 10))
        receiver.wait(guilty, *handles)
        restarts = engine.stats().restarts

    assert receiver.ends["guilty", 0] is FinishReason.ERROR
    assert "poisoned" in (receiver.errors["guilty", 0] or "")
    assert {name: receiver.tokens[name, 0] for name in prompts} == expected
    assert 2 <= restarts <= 8


def test_a_failure_that_does_not_recur_fails_no_request(model: Any) -> None:
    steps = iter(range(10_000))

    def fail_once(ids: torch.Tensor) -> None:
        if next(steps) == 7:
            raise ValueError("a cosmic ray")

    prompt = [4, 9, 2]
    sampling = Sampling(temperature=0.8, seed=5, frequency_penalty=0.3, ignore_eos=True)
    with running(model) as (engine, receiver):
        receiver.wait(engine.submit(EngineRequest("undisturbed", prompt, 30, sampling)))
        intercept(engine, fail_once)
        receiver.wait(engine.submit(EngineRequest("interrupted", prompt, 30, sampling)))
        assert engine.stats().restarts == 1
        assert engine.is_healthy

    assert receiver.tokens["interrupted", 0] == receiver.tokens["undisturbed", 0]


def test_a_lack_of_memory_shrinks_the_batch_and_fails_no_request(model: Any) -> None:
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
        assert receiver.tokens[f"r{number}", 0] == complete(model, [number] * 3, 9)


def test_a_device_error_makes_the_engine_unhealthy(model: Any) -> None:
    def break_device(ids: torch.Tensor) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with running(model) as (engine, receiver):
        intercept(engine, break_device)
        handle = engine.submit(EngineRequest("x", [1], 5))
        wait_until(lambda: not engine.is_healthy)
        with pytest.raises(EngineStopping):
            engine.submit(EngineRequest("y", [1], 5))
        handle.cancel()
        receiver.wait(handle)


def test_a_step_that_hangs_makes_the_engine_unhealthy(model: Any) -> None:
    released = threading.Event()

    def hang(ids: torch.Tensor) -> None:
        released.wait(20)

    with running(model, stall_seconds=0.3) as (engine, receiver):
        intercept(engine, hang)
        handle = engine.submit(EngineRequest("x", [1], 5))
        wait_until(lambda: not engine.is_healthy)
        handle.cancel()
        receiver.wait(handle)
        released.set()


def test_an_engine_that_fails_every_step_becomes_unhealthy(model: Any) -> None:
    def fail(ids: torch.Tensor) -> None:
        raise ValueError("always")

    with running(model) as (engine, _):
        intercept(engine, fail)
        for number in range(40):
            engine.submit(EngineRequest(f"r{number}", [1], 5))
        wait_until(lambda: not engine.is_healthy)


def test_stop_ends_running_requests_as_cancelled_and_refuses_more(model: Any) -> None:
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
        raise LookupError("a fault of the receiver")

    with running(model) as (engine, receiver):
        receiver.on_event = fail  # type: ignore[assignment]  # takes any event
        receiver.wait(engine.submit(EngineRequest("x", [1], 5)))
        assert engine.stats().restarts == 0


@pytest.mark.system
def test_a_thousand_requests_of_all_kinds_end_once_each_and_leave_no_objects(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pytest stores logged errors, whose tracebacks hold the objects of their frames.
    monkeypatch.setattr(logging.getLogger("worker.engine.hf.watchdog"), "disabled", True)
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
        """Run requests to their ends, check each, and drop their events."""
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
        wait_until(lambda: engine.stats().running == engine.stats().waiting == 0)
        wait_until(lambda: engine.stats().cache_use == 0)
        check_ends(handles, receiver)
        receiver.forget()

    with running(
        model, cache_blocks=40, max_sequences=16, max_batch_tokens=64, prefix_sharing=True
    ) as (engine, receiver):
        intercept(engine, fail_on_poison)
        counts = []
        for numbers in (range(400), range(400, 700), range(700, 1000)):
            run(engine, receiver, numbers)
            counts.append(count_objects())
        assert engine.is_healthy
        assert not engine.loop._cache.cache_allocators["full_attention"].block_table

    # One object left of each of the last 300 requests would be 300 more.
    assert counts[2] - counts[1] < 100, counts


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


def count_objects() -> int:
    """Return the number of live objects and container entries, tensors included."""
    gc.collect()
    containers = (dict, list, set, deque)
    return sum(1 + (len(o) if type(o) in containers else 0) for o in gc.get_objects())
