"""A process that is slow to admit what it let in refuses the next, and only what generates."""

from __future__ import annotations

import pytest
from flask import Blueprint, Flask

from api.runtime.load_shedding import CROWD, Entrance, leave_entrance, register_entrance
from core.errors import Unavailable
from tests.support.factories.limit_key import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def entrance(clock: Clock) -> Entrance:
    return Entrance(max_seconds=1.0, clock=clock)


def test_a_crowd_whose_oldest_is_not_admitted_in_time_lets_no_more_in(
    entrance: Entrance, clock: Clock
) -> None:
    for _ in range(CROWD):
        entrance.enter()
    clock.now += 1.1

    with pytest.raises(Unavailable) as caught:
        entrance.enter()

    assert caught.value.code == "overloaded"
    assert int(caught.value.headers["Retry-After"]) in (1, 2, 3)


def test_a_burst_is_let_in_whatever_its_size(entrance: Entrance, clock: Clock) -> None:
    for _ in range(20 * CROWD):
        entrance.enter()
        clock.now += 0.9 / (20 * CROWD)


def test_one_slow_request_is_no_crowd(entrance: Entrance, clock: Clock) -> None:
    for _ in range(CROWD - 1):
        entrance.enter()
    clock.now += 100

    entrance.enter()


def test_more_are_let_in_when_the_oldest_has_gone_through(entrance: Entrance, clock: Clock) -> None:
    tickets = [entrance.enter()]
    clock.now += 0.5
    tickets += [entrance.enter() for _ in range(CROWD)]
    clock.now += 0.6

    with pytest.raises(Unavailable):
        entrance.enter()
    entrance.leave(tickets[0])
    entrance.leave(tickets[0])
    entrance.enter()


def test_only_what_generates_and_is_not_admitted_yet_stands_at_the_entrance(
    clock: Clock, entrance: Entrance
) -> None:
    app = Flask("entrance")
    seen: list[int] = []

    def at_the_door() -> int:
        return len(entrance._since)

    generating = Blueprint("generate", "entrance")
    looking = Blueprint("jobs", "entrance")

    @generating.post("/generate")
    def generate() -> str:
        seen.append(at_the_door())
        leave_entrance()
        seen.append(at_the_door())
        return "answer"

    @generating.post("/fail")
    def fail() -> str:
        raise Unavailable("a part is away")

    @looking.get("/job")
    def look() -> str:
        seen.append(at_the_door())
        return "job"

    for blueprint in (generating, looking):
        app.register_blueprint(blueprint)
    register_entrance(app, entrance)
    caller = app.test_client()

    caller.post("/generate")
    caller.get("/job")
    app.config["PROPAGATE_EXCEPTIONS"] = False
    caller.post("/fail")

    assert seen == [1, 0, 0]
    assert at_the_door() == 0


def test_who_waits_for_a_client_is_not_at_the_door(entrance: Entrance, clock: Clock) -> None:
    for _ in range(CROWD):
        entrance.enter()
    slow = entrance.enter()
    with entrance.outside(slow):
        clock.now += 0.9
        for ticket in list(entrance._since):
            entrance.leave(ticket)
        clock.now += 100
        tickets = [entrance.enter() for _ in range(CROWD)]
    for ticket in tickets:
        entrance.leave(ticket)
    clock.now += 0.5

    for _ in range(CROWD):
        entrance.enter()
    with pytest.raises(Unavailable):
        clock.now += 0.6
        entrance.enter()
