"""Which sequences share the next forward pass: fair between accounts, interactive before bulk.

A subclass of the library's scheduler. It also closes three gaps there: a cancelled request whose
batch is in flight, the end of a stop on admissions that a cancellation leaves behind, and forks of
a prompt with a single token left.
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

#: What the library wants of a schedule: states, whether all decode, query and cached tokens.
Schedule = tuple[list[FutureRequestState] | None, bool, int, int]


def register_scheduler() -> None:
    """Make `FairScheduler` known to the library, which takes FIFO in silence for unknown names."""
    SCHEDULER_MAPPING[SCHEDULER_NAME] = FairScheduler


class FairScheduler(FIFOScheduler):
    """Decides on the engine's thread; `attach` gives it what it decides by."""

    def attach(
        self,
        *,
        roster: Roster,
        counters: VirtualCounters,
        on_iteration: Callable[[], None],
        on_orphan: Callable[[str], None],
        rank_sync: RankSync | None = None,
    ) -> None:
        """Set who is in the engine and what each account has had.

        Args:
            on_turn: called at each turn of the loop.
            on_orphan: called with the id of a waiting state that no sequence owns.
            rank_sync: link to the other ranks; `None` when one process holds the whole model.
        """
        self.roster = roster
        self.counters = counters
        self.on_iteration = on_iteration
        self.rank_sync = rank_sync
        self._admission = Admission(self, roster=roster, counters=counters, on_orphan=on_orphan)
        self._token_limit: int | None = None
        self._chosen: list[set[str]] = [set(), set()]

    @property
    def suspects(self) -> set[str]:
        """Ids of the states in the last batches: one of them is at fault when a step fails.

        There are two batches, because one may be in flight while the next is prepared.
        """
        return self._chosen[0] | self._chosen[1]

    def shrink(self) -> bool:
        """Halve what shares a step from now on; False when it cannot be less."""
        if self.max_requests_per_batch == 1:
            return False
        self.max_requests_per_batch //= 2
        tokens = self._token_limit or self.cache.max_batch_tokens
        self._token_limit = max(tokens // 2, self.max_requests_per_batch)
        _log.warning(
            "out of memory: now %d sequences and %d tokens share a step at most",
            self.max_requests_per_batch,
            self._token_limit,
        )
        return True

    def schedule_batch(self, token_budget: int, cache_budget: int) -> Schedule:
        """Choose the next batch of all that decode, and prompts for what tokens are left."""
        if not self.active_requests:
            # Only a finish lifts the library's stop on admissions: after cancels none would come.
            self.block_new_requests = False
        token_budget = min(token_budget, self._token_limit or token_budget)
        candidates = self._decide()
        self._chosen = [{state.request_id for state in candidates}, self._chosen[0]]
        removed: set[str] = set()
        scheduled, failed, is_decode, queries, cached = self._process_candidates(
            candidates, token_budget, cache_budget, removed
        )
        self._cleanup_waiting_queue(removed)
        self._chosen[0] = {future.state.request_id for future in scheduled}
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
        """Remove cancelled requests. The library calls this at each turn of its loop."""
        with self._cancellation_lock:
            deferred = self._deferred()
            self._requests_to_cancel -= deferred
        cancelled: list[RequestState] = super().clear_cancelled_requests()
        with self._cancellation_lock:
            self._requests_to_cancel |= deferred
        for state in cancelled:
            # With asynchronous batching its batch may be in flight: the update skips what is
            # finished, and would otherwise look for the freed pages and end the loop.
            state._status = RequestStatus.FINISHED
        if cancelled:
            self.block_new_requests = False
            gone = {id(state) for state in cancelled}
            self._requests_to_fork = [s for s in self._requests_to_fork if id(s) not in gone]
        self.on_iteration()
        return cancelled

    def _deferred(self) -> set[str]:
        """Return which of those to cancel have to wait; every process has the same to cancel."""
        asked, sync = self._requests_to_cancel, self.rank_sync
        if not asked or sync is None:
            return {i for i in asked if self._must_wait_for_fork(i)}
        found = {i for i in asked if self._must_wait_for_fork(i)} if sync.is_leader else None
        deferred: set[str] = sync.broadcast(found)
        return deferred

    def is_forking(self, state: RequestState) -> bool:
        """Return whether children of the state begin before the next step."""
        return any(state is forking for forking in self._requests_to_fork)

    def fits(self, state: RequestState) -> bool:
        """Return whether the state could begin now."""
        self._record(Action.FITS, state)
        if len(self.active_requests) >= self.max_requests_per_batch:
            return False
        tokens = len(state.remaining_prefill_tokens)
        has_margin = self._try_to_meet_safety_margin()
        return bool(has_margin and self.cache.can_store_request_tokens(state, tokens, dry_run=True))

    def preempt(self, state: RequestState) -> None:
        """Free the state's place; it begins again later, from its prompt and tokens so far."""
        self._record(Action.PREEMPT, state)
        again = state.create_equivalent_initial_request()
        state._status = RequestStatus.FINISHED
        self.finish_request(state.request_id)
        self.add_waiting_request(again)

    def _record(self, action: Action, state: RequestState) -> None:
        """Record what changes the cache, or may: the other ranks repeat it."""
        if self.rank_sync is not None:
            self.rank_sync.record(action, state.request_id)

    def _infer_request_tokens(
        self, state: RequestState, request_ids_to_remove_from_waiting: set[str]
    ) -> list[int]:
        """Look for a cached prefix, count its tokens, and take apart forks that cannot be made."""
        for allocator in self.cache.cache_allocators.values():
            if isinstance(allocator, SaltedAllocator):
                allocator.matching = state.request_id
        offset = state.position_offset
        tokens: list[int] = super()._infer_request_tokens(state, request_ids_to_remove_from_waiting)
        sequence = self.roster.get(state.request_id)
        if sequence is not None and not sequence.charged and sequence.index == 0:
            sequence.handle.cached_tokens += state.position_offset - offset
        if state.num_children and len(tokens) == 1:
            self._take_apart(state)
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
        """Charge what is computed of the prompt, once whatever becomes of the state.

        Not all of it at admission: an account that joins then is lifted to service not yet had.
        """
        tokens = min(computed, sequence.prompt_length) - sequence.charged
        if tokens > 0:
            sequence.charged += tokens
            if sequence.index == 0:  # the prompt is computed once for all sequences
                self.counters.charge_input(sequence.request, tokens)

    def _take_apart(self, state: RequestState) -> None:
        """Let the children begin on their own: the library forks before the last prompt token,
        and would run a step of no tokens where there is only that one.
        """
        for library_id in children_of(state):
            child = state.create_equivalent_initial_request()
            child.request_id = library_id
            child.num_children = 0
            self.add_waiting_request(child)
        state.num_children = 0

    def _must_wait_for_fork(self, library_id: str) -> bool:
        """Whether the state to cancel is not born yet, or still carries children that live on."""
        parent_id = library_id.split(CHILD_MARK)[0]
        parent = self.active_requests.get(parent_id) or self.waiting_requests.get(parent_id)
        if parent is None or not parent.num_children:
            return False
        return library_id != parent_id or self._admission.sequence_of(parent) is not None
