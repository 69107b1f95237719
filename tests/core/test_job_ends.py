from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import redis

from core.ids import new_id
from core.job_ends import JobEnds, publish_end
from tests.service import wait_until


def subscribers(client: redis.Redis) -> int:
    return int(client.pubsub_numsub("job-ends")[0][1])


def test_a_waiter_is_woken_by_its_own_job_only(client: redis.Redis) -> None:
    ends, mine, other = JobEnds(client), new_id(), new_id()

    with ends.watch(mine) as ended:
        wait_until(lambda: subscribers(client) == 1, 5)
        ended.wait(0.5)
        ended.clear()
        publish_end(client, other)
        assert not ended.wait(0.3)
        publish_end(client, mine)
        assert ended.wait(5)
    ends.close()


def test_many_waiters_share_one_subscription(client: redis.Redis) -> None:
    ends = JobEnds(client)
    jobs = [new_id() for _ in range(50)]

    def wait(job_id: object) -> bool:
        with ends.watch(job_id) as ended:  # type: ignore[arg-type]
            return ended.wait(10)

    with ThreadPoolExecutor(50) as pool:
        waits = [pool.submit(wait, job) for job in jobs]
        wait_until(lambda: subscribers(client) >= 1, 5)
        assert subscribers(client) == 1
        for job in jobs:
            publish_end(client, job)
        assert all(future.result(10) for future in waits)
    ends.close()


def test_waiters_are_woken_to_look_when_the_subscription_broke(client: redis.Redis) -> None:
    ends = JobEnds(client)
    with ends.watch(new_id()) as ended:
        wait_until(lambda: subscribers(client) == 1, 5)
        time.sleep(0.2)
        ended.clear()

        client.execute_command("CLIENT KILL TYPE pubsub")

        assert ended.wait(5)
    ends.close()
