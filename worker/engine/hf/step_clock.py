"""Measures the steps of the loop, on the engine's thread."""

from __future__ import annotations

import time
from collections.abc import Sequence as Items
from typing import Any

from worker.engine.protocol import ObserveStep, Step


class StepClock:
    """Measure a step from the preparation of its batch to the next iteration of the loop.

    The library has no event for the end of a step: one that only computes prompts delivers no
    output. With asynchronous batching the measure is the time from one step to the next.

    Attributes:
        observe: called with each step.
    """

    def __init__(self) -> None:
        self.observe: ObserveStep = lambda step: None
        self._began: tuple[float, int, int] | None = None

    def begin(self, requests_in_batch: Items[Any]) -> None:
        """Start the clock for a batch of the library's requests."""
        tokens = sum(request.query_length for request in requests_in_batch)
        self._began = (time.perf_counter(), len(requests_in_batch), tokens)

    def end(self) -> None:
        """Report the step to `observe`, if one has begun."""
        if self._began is not None:
            began, sequences, tokens = self._began
            self._began = None
            self.observe(Step(time.perf_counter() - began, sequences, tokens))
