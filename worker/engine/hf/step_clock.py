"""Measures the loop's steps, on the engine's thread."""

from __future__ import annotations

import time
from collections.abc import Sequence as Items
from typing import Any

from worker.engine.protocol import ObserveStep, Step


class StepClock:
    """A step begins when its batch is prepared and ends at the loop's next turn.

    The library tells of no end: a step that only reads prompts delivers nothing. With batches
    prepared ahead that is the time from one step to the next.

    Attributes:
        observe: is shown each step.
    """

    def __init__(self) -> None:
        self.observe: ObserveStep = lambda step: None
        self._began: tuple[float, int, int] | None = None

    def begin(self, requests_in_batch: Items[Any]) -> None:
        tokens = sum(request.query_length for request in requests_in_batch)
        self._began = (time.perf_counter(), len(requests_in_batch), tokens)

    def end(self) -> None:
        if self._began is not None:
            began, sequences, tokens = self._began
            self._began = None
            self.observe(Step(time.perf_counter() - began, sequences, tokens))
