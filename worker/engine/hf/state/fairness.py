"""Virtual token counters that share the engine fairly between accounts.

The algorithm is that of "Fairness in Serving Large Language Models" (Sheng et al., OSDI 2024). Each
account's tokens are divided by its weight.
"""

from __future__ import annotations

import heapq
import threading
from collections import Counter, deque
from collections.abc import Iterable

from worker.engine.hf.state.sequence import Sequence
from worker.engine.protocol import EngineRequest

#: Service of one prompt token, and of one generated token.
INPUT_WEIGHT = 1.0
OUTPUT_WEIGHT = 2.0


class VirtualCounters:
    """Count the service that each account has had, in weighted tokens over its weight."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[str, float] = {}
        self._present: Counter[str] = Counter()
        self._last_left = 0.0

    def of(self, account: str) -> float:
        """Return the service of an account."""
        return self._counters.get(account, 0.0)

    def join(self, account: str) -> None:
        """Count one more sequence of the account.

        An account that returns gains no credit for its absence. Its counter is raised to the least
        of the accounts present, or to that of the last account that left.
        """
        with self._lock:
            if account not in self._present:
                others = [self.of(other) for other in self._present]
                floor = min(others, default=self._last_left)
                self._counters[account] = max(self.of(account), floor)
            self._present[account] += 1

    def leave(self, account: str) -> None:
        """Count one sequence less of the account."""
        with self._lock:
            self._present[account] -= 1
            if not self._present[account]:
                del self._present[account]
                self._last_left = self.of(account)

    def accounts(self) -> int:
        """Return the number of accounts with sequences in the engine; safe without the lock."""
        return len(self._present)

    def charge_input(self, request: EngineRequest, tokens: int) -> None:
        """Charge computed prompt tokens to the request's account."""
        self._charge(request, INPUT_WEIGHT * tokens)

    def charge_output(self, request: EngineRequest, tokens: int) -> None:
        """Charge generated tokens to the request's account."""
        self._charge(request, OUTPUT_WEIGHT * tokens)

    def order(self, waiting: Iterable[Sequence]) -> list[Sequence]:
        """Return the sequences in the order of admission.

        The account with the least service goes first, with its earliest sequence. Each admission is
        charged in advance, so that several admissions in one step are fair too.
        """
        queues: dict[str, deque[Sequence]] = {}
        for sequence in sorted(waiting, key=lambda sequence: sequence.serial):
            queues.setdefault(sequence.request.account, deque()).append(sequence)
        heap = [(self.of(account), queue[0].serial, account) for account, queue in queues.items()]
        heapq.heapify(heap)
        ordered = []
        while heap:
            counter, _, account = heapq.heappop(heap)
            queue = queues[account]
            sequence = queue.popleft()
            ordered.append(sequence)
            if queue:
                heapq.heappush(heap, (counter + _input_cost(sequence), queue[0].serial, account))
        return ordered

    def _charge(self, request: EngineRequest, cost: float) -> None:
        with self._lock:
            account = request.account
            self._counters[account] = self.of(account) + cost / request.weight


def _input_cost(sequence: Sequence) -> float:
    tokens = sequence.prompt_length - sequence.charged
    return INPUT_WEIGHT * tokens / sequence.request.weight
