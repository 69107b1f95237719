from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import redis

from core.ids import new_id
from core.job_news import MAX_PIECES, JobNews, TextPiece, Watch, publish_ends, publish_text
from core.job_requests import JobRequest, ask_worker, listen_for_requests
from tests.service import wait_until


def subscribers(client: redis.Redis) -> int:
    return int(client.pubsub_numsub("job-news")[0][1])


def settle(client: redis.Redis, news: JobNews, *watches: Watch) -> None:
    """Wait until the subscription stands, and forget that it woke everyone.

    It has done so before it hands on a first piece of news.
    """
    wait_until(lambda: subscribers(client) == 1, 20)
    first = new_id()
    with news.watch(first, with_text=True) as watch:
        publish_text(client, [piece(first, "x")])
        wait_until(lambda: watch.pieces, 20)
    for woken in watches:
        woken.changed.clear()
        woken.may_have_ended = woken.has_gap = False


def piece(job_id: object, text: str, offset: int = 0) -> TextPiece:
    return TextPiece(job_id.hex, 1, 0, offset, text)  # type: ignore[attr-defined]


def test_a_waiter_is_woken_by_its_own_job_only(client: redis.Redis) -> None:
    news, mine, other = JobNews(client), new_id(), new_id()

    with news.watch(mine) as watch:
        settle(client, news, watch)
        publish_ends(client, [other])
        assert not watch.changed.wait(0.3)
        publish_ends(client, [other, mine])
        assert watch.changed.wait(20)
        assert watch.may_have_ended
    news.close()


def test_a_follower_gets_the_text_of_its_own_job(client: redis.Redis) -> None:
    news, mine, other = JobNews(client), new_id(), new_id()

    with news.watch(mine, with_text=True) as watch, news.watch(mine) as waiter:
        settle(client, news, watch, waiter)
        publish_text(client, [piece(other, "x"), piece(mine, "he"), piece(mine, "llo 🎉", 2)])
        assert watch.changed.wait(20)
        wait_until(lambda: len(watch.pieces) == 2, 20)
        assert [p.text for p in watch.take()] == ["he", "llo 🎉"]
        assert not watch.may_have_ended
        assert not waiter.changed.is_set()
    news.close()


def test_a_follower_who_falls_behind_is_told_of_the_gap(client: redis.Redis) -> None:
    watch = Watch(with_text=True)
    for number in range(MAX_PIECES + 1):
        watch.add(piece(new_id(), "x", number))

    assert watch.has_gap
    assert len(watch.take()) == 1


def test_many_waiters_share_one_subscription(client: redis.Redis) -> None:
    news = JobNews(client)
    jobs = [new_id() for _ in range(50)]
    all_watch = threading.Barrier(len(jobs) + 1)

    def wait(job_id: object) -> bool:
        with news.watch(job_id) as watch:  # type: ignore[arg-type]
            all_watch.wait(30)
            return watch.changed.wait(30)

    with ThreadPoolExecutor(50) as pool:
        waits = [pool.submit(wait, job) for job in jobs]
        all_watch.wait(30)
        wait_until(lambda: subscribers(client) >= 1, 20)
        assert subscribers(client) == 1
        publish_ends(client, jobs)
        assert all(future.result(30) for future in waits)
    news.close()


def test_waiters_are_woken_to_look_when_the_subscription_broke(client: redis.Redis) -> None:
    news = JobNews(client)
    with news.watch(new_id()) as watch:
        settle(client, news, watch)

        client.execute_command("CLIENT KILL TYPE pubsub")

        assert watch.changed.wait(20)
        wait_until(lambda: watch.may_have_ended and watch.has_gap, 20)
    news.close()


def test_all_who_wait_are_let_go_when_the_process_leaves(client: redis.Redis) -> None:
    news = JobNews(client)
    with news.watch(new_id()) as before:
        news.leave()
        assert before.changed.is_set()
        assert before.must_leave
        with news.watch(new_id()) as after:
            assert after.must_leave
    news.close()


def test_a_worker_hears_requests_and_survives_a_bad_one(client: redis.Redis) -> None:
    heard: list[tuple[JobRequest, object]] = []
    requests = listen_for_requests(client, lambda what, job: heard.append((what, job)))
    requests.listen()
    wait_until(lambda: client.pubsub_numsub("job-requests")[0][1] == 1, 20)
    job_id = new_id()

    client.publish("job-requests", b"nonsense")
    ask_worker(client, JobRequest.CANCEL, job_id)

    deadline = time.monotonic() + 5
    while not heard and time.monotonic() < deadline:
        time.sleep(0.01)
    requests.close()
    assert heard == [(JobRequest.CANCEL, job_id)]
