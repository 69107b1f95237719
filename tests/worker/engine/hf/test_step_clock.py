"""The step clock measures each forward pass."""

from __future__ import annotations

import time
from typing import Any

from tests.support.engine.running_engine import running
from tests.support.polling import wait_until
from worker.engine.protocol import EngineRequest, Sampling, Step

IGNORE_EOS = Sampling(ignore_eos=True)


def test_each_step_is_observed_at_its_end_with_its_tokens(model: Any) -> None:
    steps: list[Step] = []

    with running(model, observe=steps.append) as (engine, receiver):
        wait_until(lambda: len(steps) == engine.stats().steps)
        steps.clear()  # those of the warm-up
        began_at = time.perf_counter()
        receiver.wait(engine.submit(EngineRequest("a", [1, 2, 4, 5, 6], 4, IGNORE_EOS)))
        wait_until(lambda: len(steps) == 4)  # the last step has no batch after it
        elapsed = time.perf_counter() - began_at
        both = [
            engine.submit(EngineRequest(name, [7, 8, 9], 40, IGNORE_EOS)) for name in ("b", "c")
        ]
        receiver.wait(*both)
        wait_until(lambda: sum(step.tokens for step in steps[4:]) == 2 * (3 + 40 - 1))

    assert [(step.sequences, step.tokens) for step in steps[:4]] == [(1, 5), (1, 1), (1, 1), (1, 1)]
    assert 0 < sum(step.seconds for step in steps[:4]) <= elapsed
    assert max(step.sequences for step in steps) == 2
