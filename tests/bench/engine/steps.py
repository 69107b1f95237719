"""The steps of a running engine, by the events that it delivers."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from worker.engine.protocol import StepEvent


@dataclass
class Steps:
    """When each step delivered its events, and how many."""

    marks: list[tuple[float, int]] = field(default_factory=list)
    first_at: dict[str, float] = field(default_factory=dict)
    changed: threading.Event = field(default_factory=threading.Event)

    def __call__(self, events: Sequence[StepEvent]) -> None:
        now = time.perf_counter()
        self.marks.append((now, len(events)))
        for event in events:
            self.first_at.setdefault(event.handle.request.request_id, now)
        self.changed.set()

    def seconds(self, at_once: int) -> list[float]:
        """Return the duration of each step in which all `at_once` sequences decoded."""
        pairs = itertools.pairwise(self.marks)
        return [b[0] - a[0] for a, b in pairs if a[1] == b[1] == at_once]

    def wait(self, condition: Callable[[], bool], seconds: float = 300.0) -> None:
        """Wait until a step makes the condition true.

        Raises:
            TimeoutError: the condition stays false.
        """
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError
            self.changed.wait(0.05)
            self.changed.clear()
