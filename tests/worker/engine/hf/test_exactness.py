"""Each request gets the completion that the model generates alone, with any requests beside it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.engine.running_engine import running
from tests.support.engine.tiny_model import ATTENTIONS, EOS_IDS, complete, make_prompts
from worker.engine.protocol import EngineRequest, FinishReason, Sampling


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("is_sharing", [False, True])
def test_greedy_completions_equal_those_of_generate_one_by_one(
    model: Any, attention: str, is_sharing: bool
) -> None:
    requests = [
        EngineRequest(f"r{i}", prompt, max_tokens=5 + i % 40)
        for i, prompt in enumerate(make_prompts(24, 300))
    ]
    expected = [complete(model, r.prompt_ids, r.max_tokens) for r in requests]

    with running(
        model,
        attention=attention,
        prefix_sharing=is_sharing,
        max_sequences=12,
        max_batch_tokens=96,
    ) as (engine, receiver):
        handles = [engine.submit(request) for request in requests]
        receiver.wait(*handles)

    for request, tokens in zip(requests, expected, strict=True):
        assert receiver.tokens[request.request_id, 0] == tokens
        ended_early = len(tokens) < request.max_tokens
        reason = FinishReason.STOP if ended_early else FinishReason.LENGTH
        assert receiver.ends[request.request_id, 0] is reason
    assert any(len(e) < r.max_tokens for r, e in zip(requests, expected, strict=True))


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_completions_stay_exact_when_the_cache_is_full_and_requests_restart(
    model: Any, attention: str
) -> None:
    requests = [
        EngineRequest(
            f"r{i}", prompt, max_tokens=60, sampling=Sampling(ignore_eos=True), is_bulk=i % 2 == 0
        )
        for i, prompt in enumerate(make_prompts(10, 40, seed=2))
    ]
    expected = [complete(model, r.prompt_ids, 60, eos_token_id=-1) for r in requests]

    with running(model, attention=attention, cache_blocks=14, max_sequences=8) as (
        engine,
        receiver,
    ):
        handles = [engine.submit(request) for request in requests]
        receiver.wait(*handles)

    assert [receiver.tokens[r.request_id, 0] for r in requests] == expected


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_cancels_and_joining_sequences_do_not_change_other_completions(
    model: Any, attention: str
) -> None:
    prompts = make_prompts(20, 120, seed=3)
    expected = [complete(model, prompt, 30) for prompt in prompts]

    with running(model, attention=attention, max_sequences=8, max_batch_tokens=64) as (
        engine,
        receiver,
    ):
        handles = [engine.submit(EngineRequest(f"r{i}", p, 30)) for i, p in enumerate(prompts)]
        for number, handle in enumerate(handles):
            if number % 4 == 0:
                receiver.wait_for_tokens(("r1", 0), 1)
                handle.cancel()
        receiver.wait(*handles)

    for number, tokens in enumerate(expected):
        received = receiver.tokens[f"r{number}", 0]
        is_cancelled = number % 4 == 0
        assert received == (tokens[: len(received)] if is_cancelled else tokens)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("is_sharing", [False, True])
@pytest.mark.parametrize("length", [1, 2, 16, 17, 33, 65, 100])
def test_each_of_n_sequences_is_exact(
    model: Any, length: int, is_sharing: bool, attention: str
) -> None:
    """The sequences of a request share pages: the lengths end within, at and after a page."""
    prompt = make_prompts(1, 300, seed=5)[0][:length] or [1]
    prompt = (prompt * length)[:length]
    expected = complete(model, prompt, 12)

    with running(model, attention=attention, prefix_sharing=is_sharing, max_batch_tokens=64) as (
        engine,
        receiver,
    ):
        receiver.wait(engine.submit(EngineRequest("one", prompt, 12)))
        receiver.wait(engine.submit(EngineRequest("many", prompt, 12, n=4)))

    assert [receiver.tokens["many", i] for i in range(4)] == [expected] * 4


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_repetition_penalty_equals_the_librarys_own(model: Any, attention: str) -> None:
    prompts = make_prompts(8, 60, seed=4)
    penalties = [1.0, 1.3, 0.8, 2.0, 1.1, 1.0, 1.5, 0.9]
    expected = [
        complete(model, prompt, 40, repetition_penalty=penalty)
        for prompt, penalty in zip(prompts, penalties, strict=True)
    ]

    with running(model, attention=attention, cache_blocks=20, max_sequences=8) as (
        engine,
        receiver,
    ):
        handles = [
            engine.submit(EngineRequest(f"r{i}", p, 40, Sampling(repetition_penalty=penalties[i])))
            for i, p in enumerate(prompts)
        ]
        receiver.wait(*handles)

    assert [receiver.tokens[f"r{i}", 0] for i in range(8)] == expected


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_end_tokens_do_not_come_before_min_tokens(model: Any, attention: str) -> None:
    prompts = make_prompts(12, 60, seed=6)
    expected = [complete(model, prompt, 50, min_new_tokens=25) for prompt in prompts]
    without_minimum = [complete(model, prompt, 50) for prompt in prompts]

    with running(model, attention=attention) as (engine, receiver):
        handles = [
            engine.submit(EngineRequest(f"r{i}", p, 50, Sampling(min_tokens=25)))
            for i, p in enumerate(prompts)
        ]
        receiver.wait(*handles)

    assert [receiver.tokens[f"r{i}", 0] for i in range(12)] == expected
    assert any(len(tokens) < 25 for tokens in without_minimum)
    assert all(not set(tokens) & set(EOS_IDS) for tokens in expected)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_seeded_request_draws_the_same_alone_and_among_others(model: Any, attention: str) -> None:
    sampling = Sampling(temperature=0.9, top_p=0.9, presence_penalty=0.4, seed=11)
    seeded = EngineRequest("seeded", make_prompts(1, 50, seed=7)[0], 40, sampling, n=2)
    others = [
        EngineRequest(f"r{i}", p, 30 + i, Sampling(temperature=1.0, seed=i, top_k=i % 5))
        for i, p in enumerate(make_prompts(31, 120, seed=8))
    ]

    with running(model, attention=attention, max_sequences=64) as (engine, receiver):
        receiver.wait(engine.submit(seeded))
        alone = [receiver.tokens["seeded", i] for i in range(2)]
        receiver.forget()
        handles = [engine.submit(r) for r in others[:16]]
        receiver.wait_for_tokens(("r0", 0), 3)
        handles.append(engine.submit(seeded))
        handles += [engine.submit(r) for r in others[16:]]
        receiver.wait(*handles)

    assert [receiver.tokens["seeded", i] for i in range(2)] == alone
    assert alone[0] != alone[1]


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_penalties_and_seeded_draws_continue_after_a_preemption(model: Any, attention: str) -> None:
    prompts = make_prompts(4, 60, seed=12)
    sampling = [
        Sampling(temperature=0.9, seed=i, frequency_penalty=0.5, ignore_eos=True) for i in range(4)
    ]
    requests = [
        EngineRequest(f"r{i}", p, 60, sampling[i], account="a") for i, p in enumerate(prompts)
    ]

    with running(model, attention=attention, max_sequences=4) as (engine, receiver):
        for request in requests:
            receiver.wait(engine.submit(request))
        alone = [receiver.tokens[r.request_id, 0] for r in requests]
        receiver.forget()
        handles = [engine.submit(request) for request in requests]
        preempted = 0
        for number in range(5):
            receiver.wait_for_tokens(("r0", 0), 3 + 10 * number)
            receiver.wait(engine.submit(EngineRequest(f"o{number}", [1], 1, account="b")))
            preempted += sum(s.tokens_when_preempted is not None for s in engine._roster.live())
        receiver.wait(*handles)

    assert preempted
    assert [receiver.tokens[r.request_id, 0] for r in requests] == alone
