"""Who shares a step: fair between accounts, interactive before bulk, apart in the prefix cache."""

from __future__ import annotations

import copy
import threading
import time
from typing import Any

import pytest
from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from transformers.generation.continuous_batching.requests import RequestState, RequestStatus
from transformers.generation.continuous_batching.scheduler import SCHEDULER_MAPPING

from tests.worker.hf.test_exactness import ATTENTIONS, prompts
from tests.worker.hf.test_failures import intercept
from tests.worker.hf.tiny import POISON, Receiver, answer, running, until
from worker.engine import EngineRequest, Sampling, StepEvent
from worker.hf.fairness import VirtualCounters
from worker.hf.roster import Roster
from worker.hf.scheduler import FairScheduler
from worker.hf_engine import HFEngine

RUN_ON = Sampling(ignore_eos=True)


def order_of_ends(receiver: Any) -> list[str]:
    return [name for name, _ in receiver.ends]


def note_steps(engine: HFEngine, receiver: Receiver) -> dict[str, int]:
    """Return what gets the number of steps at the end of each request."""
    steps: dict[str, int] = {}

    def note(event: StepEvent) -> None:
        if event.finish_reason is not None:
            steps[event.handle.request.request_id] = engine.stats().steps

    receiver.on_event = note
    return steps


def slow_with(engine: HFEngine) -> threading.Lock:
    """Make every step slow, and return a lock: while a test holds it, no step passes."""
    lock = threading.Lock()

    def pause(ids: Any) -> None:
        with lock:
            time.sleep(0.002)

    intercept(engine, pause)
    return lock


def test_our_scheduler_is_the_one_in_use(model: Any) -> None:
    with running(model) as (engine, _):
        assert type(engine.loop._manager.batch_processor.scheduler) is FairScheduler


def test_a_second_account_is_served_before_the_rest_of_a_flood(model: Any) -> None:
    with running(model, max_sequences=2) as (engine, receiver):
        intercept(engine, lambda ids: time.sleep(0.002))
        flood = [
            engine.submit(EngineRequest(f"flood{i}", [1] * 10, 10, RUN_ON, account="flood"))
            for i in range(12)
        ]
        other = engine.submit(EngineRequest("other", [1] * 10, 10, RUN_ON, account="other"))
        receiver.wait(other, *flood)

    assert order_of_ends(receiver).index("other") <= 4


def test_interactive_requests_go_before_bulk_that_waits_longer(model: Any) -> None:
    with running(model, max_sequences=1) as (engine, receiver):
        intercept(engine, lambda ids: time.sleep(0.002))
        running_one = engine.submit(EngineRequest("first", [1], 20, RUN_ON))
        bulk = [
            engine.submit(EngineRequest(f"bulk{i}", [1], 5, RUN_ON, is_bulk=True)) for i in range(3)
        ]
        chat = [engine.submit(EngineRequest(f"chat{i}", [1], 5, RUN_ON)) for i in range(3)]
        receiver.wait(running_one, *bulk, *chat)

    assert order_of_ends(receiver) == [
        "first", "chat0", "chat1", "chat2", "bulk0", "bulk1", "bulk2",
    ]  # fmt: skip


def test_bulk_alone_fills_the_engine(model: Any) -> None:
    with running(model, max_sequences=4) as (engine, receiver):
        intercept(engine, lambda ids: time.sleep(0.002))
        bulk = [
            engine.submit(EngineRequest(f"bulk{i}", [1, 2], 200, RUN_ON, is_bulk=True))
            for i in range(6)
        ]
        until(lambda: engine.stats().running == 4 and engine.stats().waiting == 2)
        receiver.wait(*bulk)


def test_bulk_gives_its_place_to_an_interactive_request_and_stays_exact(model: Any) -> None:
    prompt = [7, 8, 9]
    expected = answer(model, prompt, 60, eos_token_id=-1)
    with running(model, max_sequences=2) as (engine, receiver):
        intercept(engine, lambda ids: time.sleep(0.002))
        bulk = [
            engine.submit(EngineRequest(f"bulk{i}", prompt, 60, RUN_ON, is_bulk=True))
            for i in range(2)
        ]
        receiver.wait_for_tokens(("bulk1", 0), 5)
        chat = engine.submit(EngineRequest("chat", prompt, 10, RUN_ON))
        receiver.wait(chat)
        assert not any(handle.is_finished for handle in bulk)
        receiver.wait(*bulk)

    assert receiver.tokens["bulk0", 0] == receiver.tokens["bulk1", 0] == expected


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_newcomer_gets_a_place_of_a_full_batch_at_once_and_all_stay_exact(
    model: Any, attention: str
) -> None:
    made = prompts(6, 60, seed=11)
    expected = [answer(model, prompt, 120, eos_token_id=-1) for prompt in made]
    with running(model, attention=attention, max_sequences=4) as (engine, receiver):
        lock, steps_at_end = slow_with(engine), note_steps(engine, receiver)
        flood = [
            engine.submit(EngineRequest(f"flood{i}", p, 120, RUN_ON, account="flood"))
            for i, p in enumerate(made)
        ]
        receiver.wait_for_tokens(("flood3", 0), 5)
        for number in range(8):
            other = EngineRequest(f"other{number}", made[number % 6], 2, RUN_ON, account="other")
            with lock:
                steps, handle = engine.stats().steps, engine.submit(other)
            receiver.wait(handle)
            assert steps_at_end[f"other{number}"] - steps <= 4
            receiver.wait_for_tokens(("flood0", 0), 6 + 5 * number)
        assert not any(handle.is_finished for handle in flood)
        receiver.wait(*flood)

    assert [receiver.tokens[f"flood{i}", 0] for i in range(6)] == expected
    assert [receiver.tokens[f"other{i}", 0] for i in range(6)] == [e[:2] for e in expected]


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_accounts_with_a_line_each_share_tokens_by_weight(model: Any, weight: float) -> None:
    def tokens_of(account: str) -> int:
        return sum(len(t) for (name, _), t in list(receiver.tokens.items()) if account in name)

    with running(model, max_sequences=6) as (engine, receiver):
        intercept(engine, lambda ids: time.sleep(0.002))
        for number in range(300):
            for account, priority in (("a", weight), ("b", 1.0)):
                length = 5 + 7 * number % 30
                request = EngineRequest(
                    f"{account}{number}", [3] * length, 20, RUN_ON, account=account, weight=priority
                )
                engine.submit(request)
        until(lambda: tokens_of("a") + tokens_of("b") > 4000, seconds=60)
        share = tokens_of("a") / tokens_of("b")

    assert share == pytest.approx(weight, rel=0.1)


def test_accounts_with_a_place_each_do_not_take_it_from_each_other(model: Any) -> None:
    with running(model, max_sequences=2) as (engine, receiver):
        intercept(engine, lambda ids: time.sleep(0.002))
        handles = [
            engine.submit(EngineRequest(name, [1] * 5, 20, RUN_ON, account=name)) for name in "abc"
        ]
        receiver.wait(*handles)
        steps = engine.stats().steps

    assert order_of_ends(receiver)[2] == "c"
    assert steps <= 3 + 20 + 21


def test_a_newcomer_does_not_wait_for_the_rest_of_a_long_prompt(model: Any) -> None:
    with running(model, max_sequences=4, max_batch_tokens=16) as (engine, receiver):
        intercept(engine, lambda ids: time.sleep(0.005))
        long = engine.submit(EngineRequest("long", [9] * 400, 2, RUN_ON, account="a"))
        until(lambda: engine.stats().steps >= 3)
        steps = engine.stats().steps
        receiver.wait(engine.submit(EngineRequest("short", [5] * 20, 1, RUN_ON, account="b")))
        assert engine.stats().steps - steps <= 8
        receiver.wait(long)


def test_a_newcomer_does_not_take_the_place_of_a_prompt_that_others_are_forked_from(
    model: Any,
) -> None:
    prompt = [POISON] * 150
    computed = 0
    computed_at_end: dict[str, int] = {}
    begun, submitted = threading.Event(), threading.Event()

    def count(ids: Any) -> None:
        nonlocal computed
        computed += int((ids == POISON).sum())
        time.sleep(0.005)
        if computed:
            begun.set()
            submitted.wait(20)  # the others must come before the prompt is computed

    def note_end(event: StepEvent) -> None:
        if event.finish_reason is not None:
            computed_at_end[event.handle.request.request_id] = computed

    with running(model, max_sequences=3, max_batch_tokens=16) as (engine, receiver):
        intercept(engine, count)
        receiver.on_event = note_end
        long = [
            engine.submit(EngineRequest(f"l{i}", [i] * 200, 60, RUN_ON, account="a"))
            for i in (1, 2)
        ]
        receiver.wait_for_tokens(("l2", 0), 1)
        many = engine.submit(EngineRequest("many", prompt, 5, RUN_ON, n=3, account="a"))
        assert begun.wait(20)
        others = [engine.submit(EngineRequest(n, [5], 2, RUN_ON, account=n)) for n in ("b", "c")]
        submitted.set()
        receiver.wait(many, *others, *long)

    assert max(computed_at_end[n] for n in ("b", "c")) < len(prompt)
    assert computed == len(prompt) - 1 + 3
    expected = answer(model, prompt, 5, eos_token_id=-1)
    assert [receiver.tokens["many", i] for i in range(3)] == [expected] * 3


def test_bulk_of_a_newcomer_waits_for_interactive_requests_to_end(model: Any) -> None:
    with running(model, max_sequences=2) as (engine, receiver):
        intercept(engine, lambda ids: time.sleep(0.002))
        chat = [
            engine.submit(EngineRequest(f"c{i}", [1], 20 + i, RUN_ON, account="a")) for i in (0, 1)
        ]
        receiver.wait_for_tokens(("c1", 0), 2)
        bulk = engine.submit(EngineRequest("bulk", [1], 1, RUN_ON, account="b", is_bulk=True))
        receiver.wait(*chat, bulk)

    assert order_of_ends(receiver)[0] == "c0"


def test_prompt_tokens_are_charged_once_even_when_a_request_begins_again(model: Any) -> None:
    with running(model, cache_blocks=10, max_sequences=4) as (engine, receiver):
        before = engine._counters.of("")
        handles = [
            engine.submit(EngineRequest(f"r{i}", [i] * 20, 60, RUN_ON, account="a"))
            for i in range(4)
        ]
        receiver.wait(*handles)
        assert engine._counters.of("a") == pytest.approx(before + 4 * (20 + 2 * 60))


def test_cached_prompt_tokens_are_counted_and_kept_apart_by_account(model: Any) -> None:
    prompt = list(range(40))

    def cached(engine: Any, receiver: Any, name: str, account: str) -> int:
        handle = engine.submit(EngineRequest(name, prompt, 3, RUN_ON, account=account))
        receiver.wait(handle)
        cached_tokens: int = handle.cached_tokens
        return cached_tokens

    with running(model, prefix_sharing=True) as (engine, receiver):
        assert cached(engine, receiver, "a1", "a") == 0
        assert cached(engine, receiver, "a2", "a") == 32
        assert cached(engine, receiver, "b1", "b") == 0
        assert cached(engine, receiver, "b2", "b") == 32
    with running(model, prefix_sharing=True, prefix_common=True) as (engine, receiver):
        assert cached(engine, receiver, "a1", "a") == 0
        assert cached(engine, receiver, "b1", "b") == 32


def test_the_prompt_of_n_sequences_is_computed_once(model: Any) -> None:
    queries = 0

    def count(ids: Any) -> None:
        nonlocal queries
        queries += ids.shape[1]

    with running(model) as (engine, receiver):
        intercept(engine, count)
        receiver.wait(engine.submit(EngineRequest("x", list(range(100)), 2, RUN_ON, n=8)))

    assert queries == 99 + 8 * 2


@pytest.mark.parametrize("scheduler_type", ["fifo", "fair"])
def test_a_cancel_while_a_batch_is_in_flight_ends_the_librarys_loop_but_not_ours(
    model: Any, scheduler_type: str
) -> None:
    """The library's own methods in their asynchronous order: prepare, cancel, prepare, update."""

    def fair(**kwargs: Any) -> FairScheduler:
        scheduler = FairScheduler(**kwargs)
        counters = VirtualCounters()
        scheduler.attach(
            roster=Roster(counters),
            counters=counters,
            on_turn=lambda: None,
            on_stray=lambda library_id: None,
        )
        return scheduler

    SCHEDULER_MAPPING["fair"] = fair
    served = copy.deepcopy(model)
    served.set_attn_implementation("sdpa")
    manager = served.init_continuous_batching(
        generation_config=GenerationConfig(do_sample=False, eos_token_id=-1),
        continuous_batching_config=ContinuousBatchingConfig(
            page_size=16,
            num_blocks=16,
            max_batch_tokens=64,
            max_requests_per_batch=4,
            scheduler_type=scheduler_type,
        ),
    )
    manager.warmup()
    del SCHEDULER_MAPPING["fair"]
    processor = manager.batch_processor
    processor.use_async_batching = True
    state = RequestState("x", [1] * 16, max_new_tokens=9)
    state.status = RequestStatus.PREFILLING
    processor.scheduler.active_requests["x"] = state
    assert processor.prepare_next_batch()
    processor._generation_step(served)
    in_flight = processor.inputs_and_outputs.prepare_batch_update()

    manager.cancel_request("x")
    assert not processor.prepare_next_batch()
    processor.inputs_and_outputs.prepare_batch_update = lambda: in_flight

    if scheduler_type == "fifo":
        with pytest.raises(KeyError):
            processor.update_batch()
    else:
        processor.update_batch()
        assert processor.cache.compute_free_capacity() == 1.0


def test_a_newcomer_waits_for_no_more_than_its_turn_in_a_full_engine(model: Any) -> None:
    with running(model, max_sequences=4) as (engine, receiver):
        lock, steps_at_end = slow_with(engine), note_steps(engine, receiver)
        long = [engine.submit(EngineRequest(f"l{i}", [i], 100, RUN_ON)) for i in range(3)]
        receiver.wait_for_tokens(("l2", 0), 5)
        short = EngineRequest("short", [1, 2, 3], 1, RUN_ON)
        with lock:
            steps, handle = engine.stats().steps, engine.submit(short)
        receiver.wait(handle)
        assert steps_at_end["short"] - steps <= 3
        receiver.wait(*long)
        until(lambda: engine.stats().running == 0)
