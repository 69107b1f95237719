from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from cli.servers.valkey import Valkey
from core.config.settings import Settings
from core.redis.client import open_redis
from core.redis.connection import RedisConnection


@pytest.fixture
def own_client(base_settings: Settings, tmp_path: Path) -> Iterator[redis.Redis]:
    """A client of a Valkey that only this test uses."""
    valkey = Valkey(tmp_path / "valkey", log_dir=tmp_path)
    valkey.start()
    environment = {**base_settings.to_environment(), "REDIS_URL": valkey.url}
    client = open_redis(Settings.from_environment(environment))
    yield client
    client.close()
    valkey.stop()


def by_command(client: redis.Redis) -> tuple[Callable[[], Any], Callable[[], Any]]:
    return client.client_id, lambda: client.set("a", 1)


def by_pipeline(client: redis.Redis) -> tuple[Callable[[], Any], Callable[[], Any]]:
    return client.client_id, lambda: client.pipeline().set("a", 1).get("a").execute()


def by_link(client: redis.Redis) -> tuple[Callable[[], Any], Callable[[], Any]]:
    link = RedisConnection(client)

    def write() -> None:
        first, *_ = link.exchange([("SET", "a", 1), ("GET", "a")])
        if isinstance(first, Exception):
            raise first

    return lambda: link.exchange([("CLIENT", "ID")])[0], write


@pytest.mark.parametrize("way", [by_command, by_pipeline, by_link])
def test_a_connection_to_a_replica_reconnects(own_client: redis.Redis, way: Any) -> None:
    """After a failover, the host name may lead to the new primary."""
    identify, write = way(own_client)
    before = identify()
    write()
    assert identify() == before
    own_client.replicaof("127.0.0.1", 1)

    with pytest.raises(redis.RedisError):
        write()

    assert identify() != before
