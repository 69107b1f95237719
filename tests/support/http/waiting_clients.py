"""Many clients that only wait, each over its own socket, and their cost to the service."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from dataclasses import dataclass

import psutil
import redis
import requests
from sqlalchemy import create_engine, text

from core.redis.client import open_redis
from tests.support.polling import wait_until
from tests.support.service import Service

LONG = {"prompt": "word " * 40, "maxTokens": 400, "ignoreEos": True}
#: Connections that are opened at the same time: the listening socket has a bounded backlog.
OPENING = 100


@dataclass(frozen=True)
class Held:
    """The cost of the clients, measured while all of them waited.

    Attributes:
        memory_mib: resident memory of each API process.
        other_calls_ms: durations of other clients' calls.
        redis_connections: of all processes together.
        database_connections: of all processes together.
    """

    memory_mib: list[float]
    other_calls_ms: list[float]
    redis_connections: int
    database_connections: int

    def percentile_ms(self, number: int) -> float:
        return statistics.quantiles(self.other_calls_ms, n=100)[number - 1]


def hold(service: Service, secret: str, *, waits: int, streams: int, calls: int) -> Held:
    """Open this many waits and streams, measure, make other calls, and disconnect."""
    return asyncio.run(_hold(service, secret, waits, streams, calls))


async def _hold(service: Service, secret: str, waits: int, streams: int, calls: int) -> Held:
    gate = asyncio.Semaphore(OPENING)

    async def open_one(is_stream: bool) -> asyncio.StreamWriter:
        async with gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", service.settings.api_port)
            body = json.dumps({**LONG, "stream": is_stream}).encode()
            head = (
                "POST /api/llm/generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                f"x-api-key: {secret}\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            await writer.drain()
            if is_stream:
                assert b"200" in await asyncio.wait_for(reader.readline(), 60)
            return writer

    kinds = [False] * waits + [True] * streams
    writers = await asyncio.gather(*(open_one(kind) for kind in kinds))
    loop = asyncio.get_running_loop()
    try:
        return await loop.run_in_executor(None, _measure, service, waits + streams, calls)
    finally:
        for writer in writers:
            writer.close()


def _measure(service: Service, waiting: int, calls: int) -> Held:
    wait_until(lambda: _unfinished(service) >= waiting, 120, service.logs)
    assert service.api is not None
    processes = psutil.Process(service.api.pid).children(recursive=True)
    return Held(
        memory_mib=[process.memory_info().rss / 2**20 for process in processes],
        other_calls_ms=_call_others(service, calls),
        redis_connections=_redis_connections(service),
        database_connections=_database_connections(service),
    )


def _call_others(service: Service, calls: int) -> list[float]:
    headers = service.sign_in_admin()
    times = []
    with requests.Session() as session:
        for _ in range(calls):
            began = time.perf_counter()
            response = session.get(f"{service.url}/api/auth/me", headers=headers, timeout=30)
            times.append((time.perf_counter() - began) * 1000)
            assert response.status_code == 200
    return times


def _unfinished(service: Service) -> int:
    return _ask_database(service, "select count(*) from jobs where finished_at is null")


def _database_connections(service: Service) -> int:
    return _ask_database(
        service,
        "select count(*) from pg_stat_activity "
        "where application_name = 'bountycoder' and datname = current_database()",
    )


def _redis_connections(service: Service) -> int:
    client: redis.Redis = open_redis(service.settings)
    try:
        return len(client.client_list())
    finally:
        client.close()


def _ask_database(service: Service, query: str) -> int:
    engine = create_engine(service.settings.database_url.get_secret_value())
    with engine.connect() as connection:
        found = connection.execute(text(query)).scalar_one()
    engine.dispose()
    return int(found)
