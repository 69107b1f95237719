"""A waiting request gets a slot of the engine within a few steps, in the order of fairness."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.support.engine.running_engine import Receiver, intercept, running
from tests.support.engine.tiny_model import ATTENTIONS, complete, make_prompts
from tests.support.polling import wait_until
from worker.engine.hf.engine import HFEngine
from worker.engine.protocol import EngineRequest, Handle, Sampling, StepEvent

IGNORE_EOS = Sampling(ignore_eos=True)


def note_steps(engine: HFEngine, receiver: Receiver) -> dict[str, int]:
    """Return a dictionary that gets the number of steps at each request's end."""
    steps: dict[str, int] = {}

    def note(event: StepEvent) -> None:
        if event.finish_reason is not None:
            steps[event.handle.request.request_id] = engine.stats().steps

    receiver.on_event = note
    return steps


def slow_down_with(engine: HFEngine) -> threading.Lock:
    """Lengthen every step, and return a lock: no step passes while the test holds it."""
    lock = threading.Lock()

    def pause(ids: Any) -> None:
        with lock:
            time.sleep(0.002)

    intercept(engine, pause)
    return lock


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_new_account_gets_a_slot_of_a_full_batch_at_once(model: Any, attention: str) -> None:
    """It preempts a sequence of the flood, which restarts and stays exact."""
    prompts = make_prompts(6, 60, seed=11)
    expected = [complete(model, prompt, 120, eos_token_id=-1) for prompt in prompts]
    with running(model, attention=attention, max_sequences=4) as (engine, receiver):
        lock, steps_at_end = slow_down_with(engine), note_steps(engine, receiver)
        flood = [
            engine.submit(EngineRequest(f"flood{i}", p, 120, IGNORE_EOS, account="flood"))
            for i, p in enumerate(prompts)
        ]
        receiver.wait_for_tokens(("flood3", 0), 5)
        for number in range(8):
            prompt = prompts[number % 6]
            other = EngineRequest(f"other{number}", prompt, 2, IGNORE_EOS, account="other")
            with lock:
                steps, handle = engine.stats().steps, engine.submit(other)
            receiver.wait(handle)
            assert steps_at_end[f"other{number}"] - steps <= 4
            receiver.wait_for_tokens(("flood0", 0), 6 + 5 * number)
        assert not any(handle.is_finished for handle in flood)
        receiver.wait(*flood)

    assert [receiver.tokens[f"flood{i}", 0] for i in range(6)] == expected
    assert [receiver.tokens[f"other{i}", 0] for i in range(6)] == [e[:2] for e in expected]


def test_a_flood_waits_for_another_account_and_bulk_for_both(model: Any) -> None:
    with running(model, max_sequences=4) as (engine, receiver):
        steps_at_end = note_steps(engine, receiver)
        submitted, seen = threading.Event(), threading.Event()

        def hold(ids: Any) -> None:
            submitted.wait(20)
            if engine.stats().running == 4:
                seen.wait(20)

        def submit(name: str, account: str, tokens: int = 10) -> Handle:
            return engine.submit(
                EngineRequest(
                    name, [1], tokens, IGNORE_EOS, account=account, is_bulk=account == "bulk"
                )
            )

        intercept(engine, hold)
        handles = [submit(f"bulk{i}", "bulk", 40) for i in range(6)]
        submitted.set()
        wait_until(lambda: (engine.stats().running, engine.stats().waiting) == (4, 2), 20)
        handles += [submit(f"flood{i}", "flood") for i in range(6)]
        handles.append(submit("other", "other"))
        steps = engine.stats().steps
        seen.set()
        receiver.wait(*handles)

    ends = list(steps_at_end)
    assert ends.index("other") < 4
    assert [name.startswith("bulk") for name in ends] == [False] * 7 + [True] * 6
    # One step is under way, and each of the next four may admit one; ten tokens take ten steps.
    assert steps_at_end["other"] - steps <= 1 + 4 + 10


def test_a_request_takes_a_free_slot_at_the_next_step(model: Any) -> None:
    with running(model, max_sequences=4) as (engine, receiver):
        lock, steps_at_end = slow_down_with(engine), note_steps(engine, receiver)
        long = [engine.submit(EngineRequest(f"l{i}", [i], 100, IGNORE_EOS)) for i in range(3)]
        receiver.wait_for_tokens(("l2", 0), 5)
        short = EngineRequest("short", [1, 2, 3], 1, IGNORE_EOS)
        with lock:
            steps, handle = engine.stats().steps, engine.submit(short)
        receiver.wait(handle)
        assert steps_at_end["short"] - steps <= 3
        receiver.wait(*long)
        wait_until(lambda: engine.stats().running == 0)
