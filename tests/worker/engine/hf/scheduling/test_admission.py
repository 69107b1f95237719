"""Admission chooses the states of a step, and preempts others, on a pool without a model."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from transformers.generation.continuous_batching.requests import RequestState, RequestStatus

from tests.support.engine.sequences import make_sequence
from worker.engine.hf.scheduling.admission import Admission
from worker.engine.hf.state.fairness import VirtualCounters
from worker.engine.hf.state.roster import Roster
from worker.engine.hf.state.sequence import Sequence, new_state


@dataclass
class FakePool:
    """A `RequestPool` with `max_requests_per_batch` slots and no cache."""

    max_requests_per_batch: int
    block_new_requests: bool = False
    active_requests: dict[str, RequestState] = field(default_factory=dict)
    waiting_requests: dict[str, RequestState] = field(default_factory=dict)
    waiting_requests_order: deque[str] = field(default_factory=deque)
    forking: list[RequestState] = field(default_factory=list)
    preempted: list[str] = field(default_factory=list)

    def is_forking(self, state: RequestState) -> bool:
        return state in self.forking

    def fits(self, state: RequestState) -> bool:
        return len(self.active_requests) < self.max_requests_per_batch

    def preempt(self, state: RequestState) -> None:
        del self.active_requests[state.request_id]
        self.preempted.append(state.request_id)
        self.add(state)

    def add(self, state: RequestState) -> None:
        self.waiting_requests[state.request_id] = state
        self.waiting_requests_order.append(state.request_id)


class Scenario:
    """An admission policy with its pool. The name of a sequence is its library id.

    Attributes:
        orphans: ids of waiting states that the policy reported as orphans.
    """

    def __init__(self, *, slots: int) -> None:
        self.pool = FakePool(slots)
        self.counters = VirtualCounters()
        self.roster = Roster(self.counters)
        self.orphans: list[str] = []
        self.admission = Admission(
            self.pool, roster=self.roster, counters=self.counters, on_orphan=self.orphans.append
        )

    def wait(self, name: str, account: str = "a", *, is_bulk: bool = False) -> Sequence:
        """Add a new waiting sequence."""
        sequence, state = self._make(name, account, is_bulk=is_bulk)
        self.pool.add(state)
        return sequence

    def run(
        self,
        name: str,
        account: str = "a",
        *,
        is_bulk: bool = False,
        children: int = 0,
        status: RequestStatus = RequestStatus.DECODING,
    ) -> Sequence:
        """Add a new running sequence."""
        sequence, state = self._make(name, account, is_bulk=is_bulk, children=children)
        state._status = status
        self.pool.active_requests[name] = state
        return sequence

    def decide(self) -> list[str]:
        """Return the admitted states, in order."""
        return [state.request_id for state in self.admission.decide()]

    def admit_all(self) -> list[str]:
        """Run the first waiting state to its end until none waits; return their order."""
        order = []
        while self.pool.waiting_requests_order:
            first = self.decide()[0]
            self.pool.waiting_requests_order.remove(first)
            del self.pool.waiting_requests[first]
            order.append(first)
            sequence = self.roster.get(first)
            assert sequence is not None
            self.counters.charge_input(sequence.request, sequence.prompt_length)
            self.counters.charge_output(sequence.request, 10)
            self.roster.end(sequence)
        return order

    def _make(
        self, name: str, account: str, *, is_bulk: bool, children: int = 0
    ) -> tuple[Sequence, RequestState]:
        sequence = make_sequence(account, is_bulk=is_bulk, n=1 + children)
        self.roster.admit([sequence])
        self.roster.rename(sequence, name)
        return sequence, new_state(sequence, name, eos_ids=(), children=children)


def test_a_second_account_is_served_before_the_rest_of_a_flood() -> None:
    scenario = Scenario(slots=1)
    for number in range(12):
        scenario.wait(f"flood{number}", "flood")
    scenario.wait("other", "other")

    assert scenario.admit_all().index("other") <= 1


def test_interactive_requests_go_before_bulk_that_waits_longer() -> None:
    scenario = Scenario(slots=1)
    for number in range(3):
        scenario.wait(f"bulk{number}", is_bulk=True)
    for number in range(3):
        scenario.wait(f"chat{number}")

    assert scenario.admit_all() == ["chat0", "chat1", "chat2", "bulk0", "bulk1", "bulk2"]


def test_bulk_alone_may_take_all_slots() -> None:
    scenario = Scenario(slots=4)
    for number in range(3):
        scenario.run(f"runs{number}", is_bulk=True)
    scenario.wait("waits", is_bulk=True)

    assert scenario.decide() == ["runs0", "runs1", "runs2", "waits"]


def test_the_newest_bulk_is_preempted_for_an_interactive_request() -> None:
    scenario = Scenario(slots=2)
    scenario.run("bulk0", is_bulk=True)
    scenario.run("bulk1", is_bulk=True)
    scenario.wait("chat")

    assert scenario.decide() == ["bulk0", "chat"]
    assert scenario.pool.preempted == ["bulk1"]


def test_an_account_with_nothing_running_preempts_one_of_a_full_batch() -> None:
    scenario = Scenario(slots=2)
    scenario.run("long").tokens = [1] * 50
    scenario.run("short")
    scenario.wait("first", "b")

    assert scenario.decide() == ["long", "first"]
    assert scenario.pool.preempted == ["short"]


def test_accounts_with_a_slot_each_do_not_preempt_each_other() -> None:
    scenario = Scenario(slots=2)
    scenario.run("a", "a")
    scenario.run("b", "b")
    scenario.wait("c", "c")

    assert scenario.decide() == ["a", "b", "c"]
    assert scenario.pool.preempted == []


def test_a_new_account_goes_before_the_rest_of_a_long_prompt() -> None:
    scenario = Scenario(slots=4)
    scenario.run("long", "a", status=RequestStatus.PREFILLING)
    scenario.run("decodes", "a")
    scenario.wait("short", "b")

    assert scenario.decide() == ["decodes", "short", "long"]


def test_a_prompt_that_others_are_forked_from_is_not_preempted() -> None:
    """Preempting it would compute the shared prompt twice."""
    scenario = Scenario(slots=3)
    scenario.run("many", children=2, status=RequestStatus.PREFILLING)
    for name in ("one", "two"):
        scenario.run(name).tokens = [1] * 50
    scenario.wait("short", "b")
    scenario.decide()

    assert scenario.pool.preempted == ["two"]


def test_bulk_of_a_new_account_waits_for_interactive_requests_to_end() -> None:
    scenario = Scenario(slots=2)
    scenario.run("chat0")
    scenario.run("chat1")
    scenario.wait("bulk", "b", is_bulk=True)
    scenario.decide()

    assert scenario.pool.preempted == []


def test_a_state_whose_fork_is_due_is_not_in_the_step() -> None:
    scenario = Scenario(slots=4)
    scenario.run("parent", children=1)
    scenario.run("other")
    scenario.pool.forking.append(scenario.pool.active_requests["parent"])

    assert scenario.decide() == ["other"]


def test_no_state_is_admitted_while_admissions_are_blocked() -> None:
    scenario = Scenario(slots=4)
    scenario.run("runs")
    scenario.wait("waits", "b")
    scenario.pool.block_new_requests = True

    assert scenario.decide() == ["runs"]


def test_a_waiting_state_without_a_sequence_is_reported_as_an_orphan() -> None:
    scenario = Scenario(slots=4)
    cancelled = scenario.wait("cancelled")
    scenario.wait("waits")
    scenario.roster.end(cancelled)

    assert scenario.decide() == ["waits"]
    assert scenario.orphans == ["cancelled"]
