from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from core.config.settings import Settings
from core.redis.client import open_redis
from core.redis.scripts import Scripts

ADD = "return redis.call('incrby', KEYS[1], ARGV[1])"


def test_a_script_unknown_to_redis_is_loaded(redis_client: redis.Redis) -> None:
    add = Scripts(redis_client).register(ADD)

    replies = []
    for _ in range(2):
        redis_client.script_flush()
        replies.append(add(keys=["sum"], args=[3]))

    assert replies == [3, 6]


def test_each_of_many_concurrent_calls_gets_its_own_reply(redis_client: redis.Redis) -> None:
    scripts = Scripts(redis_client)
    echo, fail = scripts.register("return ARGV[1]"), scripts.register("return redis.call('no')")
    together = threading.Barrier(16)

    def call(number: int) -> bytes | str:
        together.wait(10)
        if number % 4:
            return bytes(echo(keys=[], args=[number]))
        with pytest.raises(redis.ResponseError):
            fail(keys=[], args=[])
        return "failed"

    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(call, range(16)))

    assert replies == [b"%d" % i if i % 4 else "failed" for i in range(16)]


def test_a_connection_that_was_closed_while_idle_is_replaced(
    redis_client: redis.Redis,
) -> None:
    add = Scripts(redis_client).register(ADD)
    add(keys=["sum"], args=[1])

    redis_client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    assert add(keys=["sum"], args=[1]) == 2


def test_without_redis_a_call_raises_a_connection_error(base_settings: Settings) -> None:
    away = base_settings.model_copy(update={"redis_url": base_settings.redis_url})
    client = open_redis(away)
    client.connection_pool.connection_kwargs["port"] = 1
    add = Scripts(client).register(ADD)

    for _ in range(2):
        with pytest.raises(redis.ConnectionError):
            add(keys=["sum"], args=[1])
