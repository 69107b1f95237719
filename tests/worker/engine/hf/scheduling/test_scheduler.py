"""Under fair scheduling completions stay exact, charges right and cached prefixes separate."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from transformers.generation.continuous_batching.requests import RequestState, RequestStatus
from transformers.generation.continuous_batching.scheduler import SCHEDULER_MAPPING

from tests.support.engine.running_engine import intercept, running, slow_down
from tests.support.engine.tiny_model import POISON, complete, served_copy
from tests.support.polling import wait_until
from worker.engine.hf.scheduling.scheduler import FairScheduler
from worker.engine.hf.state.fairness import VirtualCounters
from worker.engine.hf.state.roster import Roster
from worker.engine.protocol import EngineRequest, Sampling, StepEvent

IGNORE_EOS = Sampling(ignore_eos=True)


def test_the_library_uses_our_scheduler(model: Any) -> None:
    with running(model) as (engine, _):
        assert type(engine.loop._manager.batch_processor.scheduler) is FairScheduler


def test_bulk_preempted_by_an_interactive_request_stays_exact(model: Any) -> None:
    prompt = [7, 8, 9]
    expected = complete(model, prompt, 60, eos_token_id=-1)
    with running(model, max_sequences=2) as (engine, receiver):
        slow_down(engine)
        bulk = [
            engine.submit(EngineRequest(f"bulk{i}", prompt, 60, IGNORE_EOS, is_bulk=True))
            for i in range(2)
        ]
        receiver.wait_for_tokens(("bulk1", 0), 5)
        chat = engine.submit(EngineRequest("chat", prompt, 10, IGNORE_EOS))
        receiver.wait(chat)
        assert not any(handle.is_finished for handle in bulk)
        receiver.wait(*bulk)

    assert receiver.tokens["bulk0", 0] == receiver.tokens["bulk1", 0] == expected


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_accounts_with_a_queue_each_share_tokens_by_weight(model: Any, weight: float) -> None:
    def tokens_of(account: str) -> int:
        return sum(len(t) for (name, _), t in list(receiver.tokens.items()) if account in name)

    with running(model, max_sequences=6) as (engine, receiver):
        slow_down(engine)
        for number in range(300):
            prompt = [3] * (5 + 7 * number % 30)
            for account, weight_of_account in (("a", weight), ("b", 1.0)):
                request = EngineRequest(
                    f"{account}{number}",
                    prompt,
                    20,
                    IGNORE_EOS,
                    account=account,
                    weight=weight_of_account,
                )
                engine.submit(request)
        wait_until(lambda: tokens_of("a") + tokens_of("b") > 2000, seconds=60)
        share = tokens_of("a") / tokens_of("b")

    assert share == pytest.approx(weight, rel=0.1)


def test_a_prompt_that_others_are_forked_from_is_computed_once_and_not_preempted(
    model: Any,
) -> None:
    prompt = [POISON] * 150
    computed = 0
    computed_at_end: dict[str, int] = {}
    queued, begun, submitted = (threading.Event() for _ in range(3))

    def count(ids: Any) -> None:
        nonlocal computed
        computed += int((ids == POISON).sum())
        queued.wait(20)
        if computed:
            begun.set()
            submitted.wait(20)  # the other accounts must arrive before the prompt is computed

    def note_end(event: StepEvent) -> None:
        if event.finish_reason is not None:
            computed_at_end[event.handle.request.request_id] = computed

    with running(model, max_sequences=3, max_batch_tokens=16) as (engine, receiver):
        intercept(engine, count)
        receiver.on_event = note_end
        long = [
            engine.submit(EngineRequest(f"l{i}", [i] * 200, 60, IGNORE_EOS, account="a"))
            for i in (1, 2)
        ]
        many = engine.submit(EngineRequest("many", prompt, 5, IGNORE_EOS, n=3, account="a"))
        queued.set()
        assert begun.wait(20)
        others = [
            engine.submit(EngineRequest(n, [5], 2, IGNORE_EOS, account=n)) for n in ("b", "c")
        ]
        submitted.set()
        receiver.wait(many, *others, *long)

    assert max(computed_at_end[n] for n in ("b", "c")) < len(prompt)
    assert computed == len(prompt) - 1 + 3
    expected = complete(model, prompt, 5, eos_token_id=-1)
    assert [receiver.tokens["many", i] for i in range(3)] == [expected] * 3


def test_prompt_tokens_are_charged_once_even_if_a_request_is_preempted(model: Any) -> None:
    with running(model, cache_blocks=10, max_sequences=4) as (engine, receiver):
        before = engine._counters.of("")
        handles = [
            engine.submit(EngineRequest(f"r{i}", [i] * 20, 60, IGNORE_EOS, account="a"))
            for i in range(4)
        ]
        receiver.wait(*handles)
        assert engine._counters.of("a") == pytest.approx(before + 4 * (20 + 2 * 60))


def test_cached_prompt_tokens_are_counted_and_separate_for_each_account(model: Any) -> None:
    prompt = list(range(40))

    def cached(engine: Any, receiver: Any, name: str, account: str) -> int:
        handle = engine.submit(EngineRequest(name, prompt, 3, IGNORE_EOS, account=account))
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
        receiver.wait(engine.submit(EngineRequest("x", list(range(100)), 2, IGNORE_EOS, n=8)))

    assert queries == 99 + 8 * 2


@pytest.mark.parametrize("scheduler_type", ["fifo", "fair"])
def test_a_cancel_of_a_running_batch_ends_the_librarys_loop_but_not_ours(
    model: Any, scheduler_type: str
) -> None:
    """Call the library's methods in asynchronous order: prepare, cancel, prepare, update.

    `fifo` is the library's scheduler: it proves that the fault still exists.
    """

    def fair(**kwargs: Any) -> FairScheduler:
        scheduler = FairScheduler(**kwargs)
        counters = VirtualCounters()
        scheduler.attach(
            roster=Roster(counters),
            counters=counters,
            on_iteration=lambda: None,
            on_orphan=lambda library_id: None,
        )
        return scheduler

    SCHEDULER_MAPPING["fair"] = fair
    served = served_copy(model)
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
    running_batch = processor.inputs_and_outputs.prepare_batch_update()

    manager.cancel_request("x")
    assert not processor.prepare_next_batch()
    processor.inputs_and_outputs.prepare_batch_update = lambda: running_batch

    if scheduler_type == "fifo":
        with pytest.raises(KeyError):
            processor.update_batch()
    else:
        processor.update_batch()
        assert processor.cache.compute_free_capacity() == 1.0
