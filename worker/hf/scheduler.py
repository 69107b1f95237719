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

from worker.hf.fairness import VirtualCounters
from worker.hf.prefix import SaltedAllocator
from worker.hf.roster import Roster
from worker.hf.sequence import Sequence

log = logging.getLogger(__name__)

SCHEDULER_NAME = "bountycoder_fair"

#: What the library wants of a schedule: states, whether all decode, query and cached tokens.
Schedule = tuple[list[FutureRequestState] | None, bool, int, int]


def register_scheduler() -> None:
    """Make `FairScheduler` known to the library, which takes FIFO in silence for unknown names."""
    SCHEDULER_MAPPING[SCHEDULER_NAME] = FairScheduler


class FairScheduler(FIFOScheduler):
    """Decides on the engine's thread; `attach` gives it what it decides by."""

    def attach(
        self, *, roster: Roster, counters: VirtualCounters, on_turn: Callable[[], None]
    ) -> None:
        """Set who is in the engine, what each account has had, and what each turn calls."""
        self.roster = roster
        self.counters = counters
        self.on_turn = on_turn
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
        log.warning(
            "out of memory: now %d sequences and %d tokens share a step at most",
            self.max_requests_per_batch,
            self._token_limit,
        )
        return True

    def schedule_batch(self, token_budget: int, cache_budget: int) -> Schedule:
        """Choose the next batch: decoding first, then prompts begun, then who waits."""
        if not self.active_requests:
            # Only a finish lifts the library's stop on admissions: after cancels none would come.
            self.block_new_requests = False
        token_budget = min(token_budget, self._token_limit or token_budget)
        waiting = self._get_waiting_candidates() if self._has_place() else []
        self._make_way(waiting)
        running = self._running()
        if not self.block_new_requests:
            running += waiting
        self._chosen = [{state.request_id for state in running}, self._chosen[0]]
        removed: set[str] = set()
        scheduled, failed, is_decode, queries, cached = self._process_candidates(
            running, token_budget, cache_budget, removed
        )
        self._cleanup_waiting_queue(removed)
        self._chosen[0] = {future.state.request_id for future in scheduled}
        if not scheduled and failed:
            return None, is_decode, 0, 0
        return scheduled, is_decode, queries, cached

    def clear_cancelled_requests(self) -> list[RequestState]:
        """Remove cancelled requests. The library calls this at each turn of its loop."""
        with self._cancellation_lock:
            deferred = {i for i in self._requests_to_cancel if self._must_wait_for_fork(i)}
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
        self.on_turn()
        return cancelled

    def _running(self) -> list[RequestState]:
        """Return active states, those that give way first at the end.

        A state whose fork is due sits out: in the asynchronous order the next batch is made before
        the fork, and would take it without a token to compute.
        """
        forking = {id(state) for state in self._requests_to_fork}
        states = [s for s in self.active_requests.values() if id(s) not in forking]
        states = [
            s for s in states if s.status in (RequestStatus.DECODING, RequestStatus.PREFILLING)
        ]
        return sorted(states, key=lambda s: (self._is_bulk(s), s.status != RequestStatus.DECODING))

    def _get_waiting_candidates(self) -> list[RequestState]:
        """Return who waits in the order of admission: bulk only when nobody else waits."""
        known = {}
        for library_id in self.waiting_requests_order:
            state = self.waiting_requests[library_id]
            if sequence := self._sequence_of(state):
                known[sequence] = state
            else:  # it was cancelled before the library had taken it
                self.set_request_cancellation(library_id)
        interactive = [sequence for sequence in known if not sequence.request.is_bulk]
        return [known[sequence] for sequence in self.counters.order(interactive or known)]

    def _sequence_of(self, state: RequestState) -> Sequence | None:
        """Return whom the state runs for: an unborn child, if it was cancelled itself."""
        family = [state.request_id, *children_of(state)]
        return next((s for member in family if (s := self.roster.get(member))), None)

    def _is_bulk(self, state: RequestState) -> bool:
        sequence = self._sequence_of(state)
        return sequence is None or sequence.request.is_bulk

    def _make_way(self, waiting: list[RequestState]) -> None:
        """Send bulk back to the queue, newest first, until the first interactive one fits."""
        if not waiting or self._is_bulk(waiting[0]) or self._fits(waiting[0]):
            return
        bulk = [state for state in self._running() if self._is_bulk(state)]
        for state in reversed(bulk):
            self._send_back(state)
            if self._fits(waiting[0]):
                break

    def _has_place(self) -> bool:
        """Whether anybody may be admitted; ordering those who wait is not free."""
        active = self.active_requests
        return len(active) < self.max_requests_per_batch or any(
            self._is_bulk(state) for state in active.values()
        )

    def _fits(self, state: RequestState) -> bool:
        if len(self.active_requests) >= self.max_requests_per_batch:
            return False
        tokens = len(state.remaining_prefill_tokens)
        has_margin = self._try_to_meet_safety_margin()
        return bool(has_margin and self.cache.can_store_request_tokens(state, tokens, dry_run=True))

    def _send_back(self, state: RequestState) -> None:
        """Free the state's place; it begins again later, from its prompt and tokens so far."""
        again = state.create_equivalent_initial_request()
        state._status = RequestStatus.FINISHED
        self.finish_request(state.request_id)
        self.add_waiting_request(again)

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
        if sequence is not None and not sequence.is_charged and sequence.index == 0:
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
        sequence = self.roster.get(state.request_id)
        if sequence is not None and not sequence.is_charged:
            sequence.is_charged = True
            if sequence.index == 0:  # the prompt is computed once for all sequences
                self.counters.charge_input(sequence.request)

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
        return library_id != parent_id or self._sequence_of(parent) is not None


CHILD_MARK = "__child#"


def child_id(parent_id: str, number: int) -> str:
    """Return the id that the library gives to a forked state."""
    return f"{parent_id}{CHILD_MARK}{number}"


def children_of(state: RequestState) -> list[str]:
    """Return the ids of the sequences that will be forked from the state."""
    return [child_id(state.request_id, number) for number in range(state.num_children)]
