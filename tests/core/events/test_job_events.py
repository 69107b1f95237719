from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import redis

from core.events.job_commands import JobCommand, send_command, subscribe_to_commands
from core.events.job_events import (
    MAX_PIECES,
    JobEvents,
    JobWatch,
    TextPiece,
    publish_ends,
    publish_text,
)
from core.ids import new_id
from tests.support.polling import wait_until


def subscribers(client: redis.Redis) -> int:
    return int(client.pubsub_numsub("job-news")[0][1])


def wait_until_subscribed(client: redis.Redis, events: JobEvents, *watches: JobWatch) -> None:
    """Wait until the process has subscribed, and reset the watches.

    A new subscription wakes all watches. It does so before it passes on a first event.
    """
    wait_until(lambda: subscribers(client) == 1, 20)
    first = new_id()
    with events.watch(first, with_text=True) as watch:
        publish_text(client, [piece(first, "x")])
        wait_until(lambda: watch.pieces, 20)
    for woken in watches:
        woken.changed.clear()
        woken.may_have_ended = woken.has_gap = False


def piece(job_id: object, text: str, offset: int = 0) -> TextPiece:
    return TextPiece(job_id.hex, 1, 0, offset, text)  # type: ignore[attr-defined]


def test_a_waiter_is_woken_by_its_own_job_only(redis_client: redis.Redis) -> None:
    events, mine, other = JobEvents(redis_client), new_id(), new_id()

    with events.watch(mine) as watch:
        wait_until_subscribed(redis_client, events, watch)
        publish_ends(redis_client, [other])
        assert not watch.changed.wait(0.3)
        publish_ends(redis_client, [other, mine])
        assert watch.changed.wait(20)
        assert watch.may_have_ended
    events.close()


def test_a_follower_gets_the_text_of_its_own_job(redis_client: redis.Redis) -> None:
    events, mine, other = JobEvents(redis_client), new_id(), new_id()

    with events.watch(mine, with_text=True) as watch, events.watch(mine) as waiter:
        wait_until_subscribed(redis_client, events, watch, waiter)
        publish_text(redis_client, [piece(other, "x"), piece(mine, "he"), piece(mine, "llo 🎉", 2)])
        assert watch.changed.wait(20)
        wait_until(lambda: len(watch.pieces) == 2, 20)
        assert [p.text for p in watch.take()] == ["he", "llo 🎉"]
        assert not watch.may_have_ended
        assert not waiter.changed.is_set()
    events.close()


def test_a_slow_follower_sees_the_gap(redis_client: redis.Redis) -> None:
    watch = JobWatch(with_text=True)
    for number in range(MAX_PIECES + 1):
        watch.add(piece(new_id(), "x", number))

    assert watch.has_gap
    assert len(watch.take()) == 1


def test_many_waiters_share_one_subscription(redis_client: redis.Redis) -> None:
    events = JobEvents(redis_client)
    jobs = [new_id() for _ in range(50)]
    all_watch = threading.Barrier(len(jobs) + 1)

    def wait(job_id: object) -> bool:
        with events.watch(job_id) as watch:  # type: ignore[arg-type]
            all_watch.wait(30)
            return watch.changed.wait(30)

    with ThreadPoolExecutor(50) as pool:
        waits = [pool.submit(wait, job) for job in jobs]
        all_watch.wait(30)
        wait_until(lambda: subscribers(redis_client) >= 1, 20)
        assert subscribers(redis_client) == 1
        publish_ends(redis_client, jobs)
        assert all(future.result(30) for future in waits)
    events.close()


def test_waiting_requests_are_woken_after_the_subscription_broke(redis_client: redis.Redis) -> None:
    events = JobEvents(redis_client)
    with events.watch(new_id()) as watch:
        wait_until_subscribed(redis_client, events, watch)

        redis_client.execute_command("CLIENT KILL TYPE pubsub")

        assert watch.changed.wait(20)
        wait_until(lambda: watch.may_have_ended and watch.has_gap, 20)
    events.close()


def test_all_waits_end_when_the_process_leaves(redis_client: redis.Redis) -> None:
    events = JobEvents(redis_client)
    with events.watch(new_id()) as before:
        events.end_waits()
        assert before.changed.is_set()
        assert before.must_end
        with events.watch(new_id()) as after:
            assert after.must_end
    events.close()


def test_a_worker_receives_commands_and_survives_a_bad_one(redis_client: redis.Redis) -> None:
    received: list[tuple[JobCommand, object]] = []
    commands = subscribe_to_commands(redis_client, lambda what, job: received.append((what, job)))
    commands.listen()
    wait_until(lambda: redis_client.pubsub_numsub("job-requests")[0][1] == 1, 20)
    job_id = new_id()

    redis_client.publish("job-requests", b"nonsense")
    send_command(redis_client, JobCommand.CANCEL, job_id)

    wait_until(lambda: received, 20)
    commands.close()
    assert received == [(JobCommand.CANCEL, job_id)]
