"""The least possible service for a job, on the same server as ours.

A Flask view with one Lua call, one INSERT and one enqueue.
`python -m tests.bench.request_path.bare_view` serves it.
"""

from __future__ import annotations

import os
from queue import Queue
from typing import Any

import dramatiq
import psycopg2
import psycopg2.extras
import redis
from dramatiq.brokers.redis import RedisBroker
from flask import Flask, request

from core.config.settings import Settings
from core.ids import new_id
from core.web.server import WebProgram, WebServer

TABLE = "create table if not exists bare_jobs (id uuid primary key, body jsonb not null)"
SCRIPT = """
local used = redis.call("incr", KEYS[1])
if used == 1 then redis.call("expire", KEYS[1], 120) end
return used
"""


def make_app(settings: Settings) -> Flask:
    """Return the application. It opens its connections now, not in a request."""
    client = redis.Redis.from_url(settings.redis_url.get_secret_value())
    count = client.register_script(SCRIPT)
    broker = RedisBroker(client=client, namespace="bare", middleware=[])
    broker.declare_queue("bare")
    url = settings.database_url.get_secret_value().replace("+psycopg2", "")
    connections: Queue[Any] = Queue()
    for _ in range(settings.database_pool_size):
        connections.put(psycopg2.connect(url))
    app = Flask("bare")

    @app.post("/jobs")
    def submit() -> tuple[dict[str, Any], int]:
        body = request.get_json()
        used = count(keys=["bare:limit"])
        job_id = str(new_id())
        connection = connections.get()
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(
                    "insert into bare_jobs (id, body) values (%s, %s)",
                    (job_id, psycopg2.extras.Json(body)),
                )
        finally:
            connections.put(connection)
        broker.enqueue(
            dramatiq.Message(
                queue_name="bare", actor_name="run", args=(job_id,), kwargs={}, options={}
            )
        )
        return {"id": job_id, "used": used}, 202

    return app


def main() -> None:
    settings = Settings.from_environment(os.environ)
    url = settings.database_url.get_secret_value().replace("+psycopg2", "")
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(TABLE)
    WebServer(
        WebProgram(
            name="bare",
            host=settings.api_host,
            port=settings.api_port,
            processes=settings.api_processes,
            grace_seconds=1,
            load=lambda: make_app(settings),
        )
    ).run()


if __name__ == "__main__":
    main()
