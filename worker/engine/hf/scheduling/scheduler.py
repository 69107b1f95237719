"""Schedules forward passes: fair between accounts, interactive requests before bulk.

`FairScheduler` is a subclass of the library's scheduler. It also closes three gaps of the library:

* a request is cancelled while its batch is in flight;
* the library blocks admissions, and the running requests are cancelled instead of finishing;
* a prompt with one token left is forked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from transformers.generation.continuous_batching.requests import (
    FutureRequestState,
    RequestState,
    RequestStatus,
)
from transformers.generation.continuous_batching.scheduler import (
    SCHEDULER_MAPPING,
    FIFOScheduler,
)

from worker.engine.hf.scheduling.admission import Admission
from worker.engine.hf.scheduling.prefix_isolation import SaltedAllocator
from worker.engine.hf.scheduling.rank_sync import Action, RankSync, StepPlan
from worker.engine.hf.state.fairness import VirtualCounters
from worker.engine.hf.state.roster import Roster
from worker.engine.hf.state.sequence import CHILD_MARK, Sequence, children_of

_log = logging.getLogger(__name__)

SCHEDULER_NAME = "bountycoder_fair"

#: The library's result of scheduling: states, whether all decode, query tokens, cached tokens.
Schedule = tuple[list[FutureRequestState] | None, bool, int, int]


def register_scheduler() -> None:
    """Register `FairScheduler`; for an unregistered name the library uses FIFO silently."""
    SCHEDULER_MAPPING[SCHEDULER_NAME] = FairScheduler


class FairScheduler(FIFOScheduler):
    """Schedule steps on the engine's thread. Call `attach` before the first step."""

    def attach(
        self,
        *,
        roster: Roster,
        counters: VirtualCounters,
        on_iteration: Callable[[], None],
        on_orphan: Callable[[str], None],
        rank_sync: RankSync | None = None,
    ) -> None:
        """Set the inputs of each decision.

        Args:
            on_iteration: called in each iteration of the loop.
            on_orphan: called with the id of a waiting state that no sequence owns.
            rank_sync: link to the other ranks; `None` when one process holds the whole model.
        """
        self.roster = roster
        self.counters = counters
        self.on_iteration = on_iteration
        self.rank_sync = rank_sync
        self._admission = Admission(self, roster=roster, counters=counters, on_orphan=on_orphan)
        self._token_limit: int | None = None
        self._last_batches: list[set[str]] = [set(), set()]

    @property
    def suspects(self) -> set[str]:
        """The ids of the states in the last two batches, which may have failed a step.

        There are two, because one batch may be in flight while the next is prepared.
        """
        return self._last_batches[0] | self._last_batches[1]

    def shrink(self) -> bool:
        """Halve the sequences and tokens of a step; return False at one sequence."""
        if self.max_requests_per_batch == 1:
            return False
        self.max_requests_per_batch //= 2
        tokens = self._token_limit or self.cache.max_batch_tokens
        self._token_limit = max(tokens // 2, self.max_requests_per_batch)
        _log.warning(
            "out of memory: a step now takes at most %d sequences and %d tokens",
            self.max_requests_per_batch,
            self._token_limit,
        )
        return True

    def schedule_batch(self, token_budget: int, cache_budget: int) -> Schedule:
        """Return the next batch: decoding states first, then prompts up to the token budget."""
        if not self.active_requests:
            # The library lifts its block when a state finishes. Cancelled states never finish.
            self.block_new_requests = False
        token_budget = min(token_budget, self._token_limit or token_budget)
        candidates = self._decide()
        self._last_batches = [{state.request_id for state in candidates}, self._last_batches[0]]
        removed: set[str] = set()
        scheduled, failed, is_decode, queries, cached = self._process_candidates(
            candidates, token_budget, cache_budget, removed
        )
        self._cleanup_waiting_queue(removed)
        self._last_batches[0] = {future.state.request_id for future in scheduled}
        if not scheduled and failed:
            return None, is_decode, 0, 0
        return scheduled, is_decode, queries, cached

    def _decide(self) -> list[RequestState]:
        """Return the states that may share the step, the same on every rank."""
        sync = self.rank_sync
        if sync is None:
            return self._admission.decide()
        if sync.is_leader:
            candidates = self._admission.decide()
            ids = tuple(state.request_id for state in candidates)
            sync.broadcast(StepPlan(sync.take_actions(), ids))
            return candidates
        plan: StepPlan = sync.broadcast(None)
        for action, library_id in plan.actions:
            self._repeat(action, self._state(library_id))
        sync.take_actions()  # repeating an action records it again
        return [self._state(library_id) for library_id in plan.candidates]

    def _repeat(self, action: Action, state: RequestState) -> None:
        """Do to this rank's cache what the leader did to its own."""
        match action:
            case Action.FITS:
                self.fits(state)
            case Action.PREEMPT:
                self.preempt(state)

    def _state(self, library_id: str) -> RequestState:
        return self.active_requests.get(library_id) or self.waiting_requests[library_id]

    def clear_cancelled_requests(self) -> list[RequestState]:
        """Remove cancelled requests; the library calls this in each iteration of its loop."""
        with self._cancellation_lock:
            deferred = self._deferred()
            self._requests_to_cancel -= deferred
        cancelled: list[RequestState] = super().clear_cancelled_requests()
        with self._cancellation_lock:
            self._requests_to_cancel |= deferred
        for state in cancelled:
            # With asynchronous batching its batch may be in flight. The library's update skips
            # finished states; for others it would read the freed pages and end the loop.
            state._status = RequestStatus.FINISHED
        if cancelled:
            self.block_new_requests = False
            removed = {id(state) for state in cancelled}
            self._requests_to_fork = [s for s in self._requests_to_fork if id(s) not in removed]
        self.on_iteration()
        return cancelled

    def _deferred(self) -> set[str]:
        """Return the cancellations that must wait for a fork, the same on every rank."""
        requested, sync = self._requests_to_cancel, self.rank_sync
        if not requested or sync is None:
            return {i for i in requested if self._must_wait_for_fork(i)}
        found = {i for i in requested if self._must_wait_for_fork(i)} if sync.is_leader else None
        deferred: set[str] = sync.broadcast(found)
        return deferred

    def is_forking(self, state: RequestState) -> bool:
        """Return whether the library forks the state before the next step."""
        return any(state is forking for forking in self._requests_to_fork)

    def fits(self, state: RequestState) -> bool:
        """Return whether there is a slot and room in the cache for the state."""
        self._record(Action.FITS, state)
        if len(self.active_requests) >= self.max_requests_per_batch:
            return False
        tokens = len(state.remaining_prefill_tokens)
        has_margin = self._try_to_meet_safety_margin()
        return bool(has_margin and self.cache.can_store_request_tokens(state, tokens, dry_run=True))

    def preempt(self, state: RequestState) -> None:
        """Free the state's slot; it starts again later from its prompt and tokens."""
        self._record(Action.PREEMPT, state)
        restarted = state.create_equivalent_initial_request()
        state._status = RequestStatus.FINISHED
        self.finish_request(state.request_id)
        self.add_waiting_request(restarted)

    def _record(self, action: Action, state: RequestState) -> None:
        """Record an action for the other ranks, if there are any."""
        if self.rank_sync is not None:
            self.rank_sync.record(action, state.request_id)

    def _infer_request_tokens(
        self, state: RequestState, request_ids_to_remove_from_waiting: set[str]
    ) -> list[int]:
        """Match a cached prefix, count its tokens, and split a fork that cannot be made."""
        for allocator in self.cache.cache_allocators.values():
            if isinstance(allocator, SaltedAllocator):
                allocator.matching = state.request_id
        offset = state.position_offset
        tokens: list[int] = super()._infer_request_tokens(state, request_ids_to_remove_from_waiting)
        sequence = self.roster.get(state.request_id)
        if sequence is not None and not sequence.charged and sequence.index == 0:
            sequence.handle.cached_tokens += state.position_offset - offset
        if state.num_children and len(tokens) == 1:
            self._split_fork(state)
        return tokens

    def _schedule_request(
        self,
        state: RequestState,
        request_tokens: list[int],
        token_budget: int,
        request_ids_to_remove_from_waiting: set[str],
    ) -> None:
        super()._schedule_request(
            state, request_tokens, token_budget, request_ids_to_remove_from_waiting
        )
        if sequence := self.roster.get(state.request_id):
            self._charge(sequence, state.position_offset + len(state.tokens_to_process))

    def _charge(self, sequence: Sequence, computed: int) -> None:
        """Charge newly computed prompt tokens; each token is charged once in all lives.

        The whole prompt is not charged at admission: that would raise the floor of an account
        that joins then by service that was not given yet.
        """
        tokens = min(computed, sequence.prompt_length) - sequence.charged
        if tokens > 0:
            sequence.charged += tokens
            if sequence.index == 0:  # the prompt is computed once for all sequences
                self.counters.charge_input(sequence.request, tokens)

    def _split_fork(self, state: RequestState) -> None:
        """Queue the children of a state as states of their own.

        The library forks before the last prompt token. With one token left, it would run a step
        without tokens.
        """
        for library_id in children_of(state):
            child = state.create_equivalent_initial_request()
            child.request_id = library_id
            child.num_children = 0
            self.add_waiting_request(child)
        state.num_children = 0

    def _must_wait_for_fork(self, library_id: str) -> bool:
        """Whether the state to cancel is not forked yet, or still has children to fork."""
        parent_id = library_id.split(CHILD_MARK)[0]
        parent = self.active_requests.get(parent_id) or self.waiting_requests.get(parent_id)
        if parent is None or not parent.num_children:
            return False
        return library_id != parent_id or self._admission.sequence_of(parent) is not None
