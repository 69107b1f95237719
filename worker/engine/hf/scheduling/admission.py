"""Chooses the states that may share the next step, and those to preempt for them."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from transformers.generation.continuous_batching.requests import RequestState, RequestStatus

from worker.engine.hf.scheduling.pool import RequestPool
from worker.engine.hf.scheduling.preemption import sequence_to_preempt
from worker.engine.hf.state.fairness import VirtualCounters
from worker.engine.hf.state.roster import Roster
from worker.engine.hf.state.sequence import Sequence, children_of


class Admission:
    """Orders states by the service of their accounts, interactive requests before bulk."""

    def __init__(
        self,
        pool: RequestPool,
        *,
        roster: Roster,
        counters: VirtualCounters,
        on_orphan: Callable[[str], None],
    ) -> None:
        """Store the inputs of each decision.

        Args:
            on_orphan: called with the id of a waiting state that no sequence owns.
        """
        self._pool = pool
        self._roster = roster
        self._counters = counters
        self._on_orphan = on_orphan

    def decide(self) -> list[RequestState]:
        """Return the states that may share the next step, in order.

        If the first waiting state does not fit, this preempts running states for it.
        """
        waiting = self._waiting() if self._may_admit() else []
        self._make_room(waiting)
        return self._candidates(waiting)

    def _candidates(self, waiting: list[RequestState]) -> list[RequestState]:
        """Return decoding states, then partly computed prompts, then waiting states.

        The first state of an account with nothing running goes before those prompts.
        """
        running = self._running()
        if self._pool.block_new_requests or not waiting:
            return running
        first = waiting[0]
        if self._is_bulk(first) or not self._is_new(first) or not self._pool.fits(first):
            return running + waiting
        ready = (s.status == RequestStatus.DECODING and not self._is_bulk(s) for s in running)
        position = sum(itertools.takewhile(bool, ready))
        return [*running[:position], first, *running[position:], *waiting[1:]]

    def _running(self) -> list[RequestState]:
        """Return active states; those to preempt first are last.

        A state whose fork is due is left out. With asynchronous batching the library makes the next
        batch before the fork, and would take the state without a token to compute.
        """
        active = self._pool.active_requests.values()
        states = [state for state in active if not self._pool.is_forking(state)]
        decoding = [s for s in states if s.status == RequestStatus.DECODING]
        prompts = [s for s in states if s.status == RequestStatus.PREFILLING]
        prompts.sort(key=self._service)
        return sorted([*decoding, *prompts], key=self._is_bulk)

    def _waiting(self) -> list[RequestState]:
        """Return waiting states in the order of admission; bulk only if no others wait."""
        known = {}
        for library_id in self._pool.waiting_requests_order:
            state = self._pool.waiting_requests[library_id]
            if sequence := self.sequence_of(state):
                known[sequence] = state
            else:  # it was cancelled before the library took it
                self._on_orphan(library_id)
        interactive = [sequence for sequence in known if not sequence.request.is_bulk]
        return [known[sequence] for sequence in self._counters.order(interactive or known)]

    def sequence_of(self, state: RequestState) -> Sequence | None:
        """Return the sequence of a state; of a cancelled parent, that of a child to be forked."""
        sequence = self._roster.get(state.request_id)
        if sequence is not None or not state.num_children:
            return sequence
        return next((s for child in children_of(state) if (s := self._roster.get(child))), None)

    def _is_bulk(self, state: RequestState) -> bool:
        """Whether the state is bulk; one without a sequence counts as bulk."""
        sequence = self.sequence_of(state)
        return sequence is None or sequence.request.is_bulk

    def _make_room(self, waiting: list[RequestState]) -> None:
        """Preempt bulk, newest first, until the first waiting interactive state fits.

        If no bulk runs, this may preempt a state of another account: see `preemption.py`.
        """
        if not waiting or self._is_bulk(waiting[0]) or self._pool.fits(waiting[0]):
            return
        bulk = [state for state in self._running() if self._is_bulk(state)]
        for state in reversed(bulk):
            self._pool.preempt(state)
            if self._pool.fits(waiting[0]):
                return
        if not self._pool.block_new_requests:
            self._preempt_for(waiting[0])

    def _preempt_for(self, state: RequestState) -> None:
        """Preempt one sequence for a state of an account that has nothing running."""
        waiting = self.sequence_of(state)
        if waiting is None or not self._is_new(state):
            return
        # Keep a state that others will be forked from: its prompt is computed for all of them.
        running = {
            sequence: state
            for state in self._running()
            if not state.num_children and (sequence := self._roster.get(state.request_id))
        }
        sequence = sequence_to_preempt(waiting, running)
        if sequence is not None:
            sequence.tokens_when_preempted = len(sequence.tokens)
            self._pool.preempt(running[sequence])

    def _may_admit(self) -> bool:
        """Whether a state may be admitted; this saves the cost of ordering the waiting states."""
        active = self._pool.active_requests
        return (
            len(active) < self._pool.max_requests_per_batch
            or len(self._accounts()) < self._counters.accounts()
            or any(self._is_bulk(state) for state in active.values())
        )

    def _is_new(self, state: RequestState) -> bool:
        """Whether the state's account has nothing running."""
        sequence = self.sequence_of(state)
        return sequence is not None and sequence.request.account not in self._accounts()

    def _service(self, state: RequestState) -> float:
        """Return the service that the state's account has had."""
        sequence = self.sequence_of(state)
        return self._counters.of(sequence.request.account) if sequence else 0.0

    def _accounts(self) -> set[str]:
        """Return the accounts that have something running."""
        states = self._pool.active_requests.values()
        return {s.request.account for state in states if (s := self.sequence_of(state))}
