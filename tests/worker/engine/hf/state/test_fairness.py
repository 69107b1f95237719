"""Accounts share the engine by weight, and an account gains no credit while it is absent."""

from __future__ import annotations

from tests.support.engine.sequences import make_sequence
from worker.engine.hf.state.fairness import VirtualCounters
from worker.engine.hf.state.sequence import Sequence


def accounts_of(ordered: list[Sequence]) -> list[str]:
    return [item.request.account for item in ordered]


def test_the_account_with_the_least_service_goes_first() -> None:
    counters = VirtualCounters()
    busy, quiet = make_sequence("busy"), make_sequence("quiet")
    for item in (busy, quiet):
        counters.join(item.request.account)
    counters.charge_output(busy.request, 5)

    assert accounts_of(counters.order([busy, quiet])) == ["quiet", "busy"]


def test_a_flood_of_one_account_does_not_delay_another() -> None:
    counters = VirtualCounters()
    flood = [make_sequence("flood") for _ in range(50)]
    other = [make_sequence("other") for _ in range(3)]
    for item in flood + other:
        counters.join(item.request.account)

    assert accounts_of(counters.order(flood + other))[:6].count("other") == 3


def test_requests_of_one_account_keep_their_order() -> None:
    counters = VirtualCounters()
    items = [make_sequence("a") for _ in range(5)]

    assert counters.order(reversed(items)) == items


def test_a_heavier_account_gets_its_share_of_tokens() -> None:
    counters = VirtualCounters()
    waiting = [make_sequence("light") for _ in range(100)]
    waiting += [make_sequence("heavy", weight=3.0) for _ in range(100)]
    for item in waiting:
        counters.join(item.request.account)

    served = accounts_of(counters.order(waiting))[:80]

    assert 58 <= served.count("heavy") <= 62


def test_output_costs_twice_as_much_as_input() -> None:
    counters = VirtualCounters()
    item = make_sequence("a")
    counters.join("a")
    counters.charge_input(item.request, 7)
    counters.charge_output(item.request, 3)

    assert counters.of("a") == 7 + 2 * 3


def test_an_account_that_returns_starts_at_the_least_count_of_those_present() -> None:
    counters = VirtualCounters()
    counters.join("a")
    counters.join("b")
    counters.charge_output(make_sequence("a").request, 100)
    counters.charge_output(make_sequence("b").request, 60)

    counters.join("returning")

    assert counters.of("returning") == 120


def test_an_account_that_returns_to_an_idle_engine_starts_at_the_count_of_the_last() -> None:
    counters = VirtualCounters()
    counters.join("a")
    counters.charge_output(make_sequence("a").request, 10)
    counters.leave("a")

    counters.join("b")

    assert counters.of("b") == 20
