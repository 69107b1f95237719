"""A process whose admissions are late refuses new generations, and no other requests."""

from __future__ import annotations

import pytest
from flask import Blueprint, Flask

from api.runtime.load_shedding import (
    MIN_PENDING,
    LoadShedder,
    end_admission,
    register_load_shedding,
)
from core.errors import Unavailable
from tests.support.factories.limit_key import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shedder(clock: Clock) -> LoadShedder:
    return LoadShedder(max_seconds=1.0, clock=clock)


def test_new_requests_are_refused_while_the_oldest_admission_is_late(
    shedder: LoadShedder, clock: Clock
) -> None:
    for _ in range(MIN_PENDING):
        shedder.begin()
    clock.now += 1.1

    with pytest.raises(Unavailable) as caught:
        shedder.begin()

    assert caught.value.code == "overloaded"
    assert int(caught.value.headers["Retry-After"]) in (1, 2, 3)


def test_a_burst_of_any_size_is_accepted(shedder: LoadShedder, clock: Clock) -> None:
    for _ in range(20 * MIN_PENDING):
        shedder.begin()
        clock.now += 0.9 / (20 * MIN_PENDING)


def test_few_pending_requests_are_no_overload(shedder: LoadShedder, clock: Clock) -> None:
    for _ in range(MIN_PENDING - 1):
        shedder.begin()
    clock.now += 100

    shedder.begin()


def test_requests_are_accepted_once_the_oldest_is_admitted(
    shedder: LoadShedder, clock: Clock
) -> None:
    tickets = [shedder.begin()]
    clock.now += 0.5
    tickets += [shedder.begin() for _ in range(MIN_PENDING)]
    clock.now += 0.6

    with pytest.raises(Unavailable):
        shedder.begin()
    shedder.end(tickets[0])
    shedder.end(tickets[0])
    shedder.begin()


def test_only_pending_generations_are_counted(clock: Clock, shedder: LoadShedder) -> None:
    app = Flask("load-shedding")
    seen: list[int] = []

    def pending() -> int:
        return len(shedder._since)

    generating = Blueprint("generate", "load-shedding")
    polling = Blueprint("jobs", "load-shedding")

    @generating.post("/generate")
    def generate() -> str:
        seen.append(pending())
        end_admission()
        seen.append(pending())
        return "completion"

    @generating.post("/fail")
    def fail() -> str:
        raise Unavailable("a part is away")

    @polling.get("/job")
    def poll() -> str:
        seen.append(pending())
        return "job"

    for blueprint in (generating, polling):
        app.register_blueprint(blueprint)
    register_load_shedding(app, shedder)
    caller = app.test_client()

    caller.post("/generate")
    caller.get("/job")
    app.config["PROPAGATE_EXCEPTIONS"] = False
    caller.post("/fail")

    assert seen == [1, 0, 0]
    assert pending() == 0


def test_waiting_for_a_client_is_not_counted(shedder: LoadShedder, clock: Clock) -> None:
    for _ in range(MIN_PENDING):
        shedder.begin()
    slow = shedder.begin()
    with shedder.paused(slow):
        clock.now += 0.9
        for ticket in list(shedder._since):
            shedder.end(ticket)
        clock.now += 100
        tickets = [shedder.begin() for _ in range(MIN_PENDING)]
    for ticket in tickets:
        shedder.end(ticket)
    clock.now += 0.5

    for _ in range(MIN_PENDING):
        shedder.begin()
    with pytest.raises(Unavailable):
        clock.now += 0.6
        shedder.begin()
