"""A bad request is refused before it runs, and affects no other."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.engine.running_engine import running
from tests.support.engine.tiny_model import CONTEXT_LENGTH, VOCAB_SIZE, complete
from worker.engine.protocol import EngineRefused, EngineRequest, Sampling


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (EngineRequest("x", [], 5), "empty"),
        (EngineRequest("x", [VOCAB_SIZE], 5), "ids"),
        (EngineRequest("x", [-1], 5), "ids"),
        (EngineRequest("x", ["a"], 5), "integers"),  # type: ignore[list-item]  # the wrong type
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
def test_a_bad_request_is_refused_and_affects_no_other(
    model: Any, bad: EngineRequest, fault: str
) -> None:
    with running(model) as (engine, receiver):
        good = engine.submit(EngineRequest("good", [1, 2], 8))
        with pytest.raises(EngineRefused, match=fault):
            engine.submit(bad)
        receiver.wait(good)

        assert engine.stats().restarts == 0
        assert receiver.tokens["good", 0] == complete(model, [1, 2], 8)


def test_an_id_is_refused_while_its_request_runs_and_free_afterwards(model: Any) -> None:
    with running(model) as (engine, receiver):
        first = engine.submit(EngineRequest("x", [1], 400, Sampling(ignore_eos=True)))
        with pytest.raises(EngineRefused, match="id x"):
            engine.submit(EngineRequest("x", [1], 5))
        first.cancel()
        receiver.wait(first)
        receiver.forget()

        receiver.wait(engine.submit(EngineRequest("x", [1], 5)))


def test_a_request_as_long_as_the_cache_runs_and_a_longer_one_is_refused(model: Any) -> None:
    with running(model, cache_blocks=8, page_size=16) as (engine, receiver):
        assert engine.context_length == 128
        with pytest.raises(EngineRefused):
            engine.submit(EngineRequest("longer", [1] * 100, 29))
        longest = EngineRequest("longest", [1] * 100, 28, Sampling(ignore_eos=True))
        receiver.wait(engine.submit(longest))

    assert len(receiver.tokens["longest", 0]) == 28
