"""How the API's processes serve connections and how they stop."""

from __future__ import annotations

import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import gevent.socket
import pytest
import redis
import requests
from flask import Flask
from gevent.pool import Pool
from gunicorn.glogging import Logger
from sqlalchemy import select

from core.config.settings import Settings
from core.web.listener import BACKLOG, Listener
from core.web.server import WebProgram, WebServer
from models.jobs.job import Job, JobState
from tests.support.polling import wait_until
from tests.support.service import Service


@pytest.mark.alone
def test_an_idle_connection_does_not_hold_up_the_stop(
    base_settings: Settings, redis_client: redis.Redis, tmp_path: Path
) -> None:
    with (
        Service.started(base_settings, tmp_path, drain_seconds=60.0) as service,
        requests.Session() as client,
    ):
        assert service.api is not None
        assert client.get(f"{service.url}/healthz", timeout=10).status_code == 200

        began = time.monotonic()
        service.api.send_signal(signal.SIGTERM)
        service.api.wait(30)

        assert time.monotonic() - began < 10


def test_a_closing_listener_serves_the_connections_in_its_backlog() -> None:
    """Their greenlets start after the listener was closed."""
    responses: list[bytes] = []

    def respond(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("content-length", "2")])
        return [b"ok"]

    def serve() -> None:
        worker = make_worker(respond)
        accepting = gevent.socket.socket()
        accepting.bind(("127.0.0.1", 0))
        accepting.listen(BACKLOG)
        listener = Listener(accepting, partial(worker.handle, accepting), spawn=Pool(100))
        listener.start()
        waiting = [socket.create_connection(listener.address, timeout=10) for _ in range(40)]
        for one in waiting:
            one.sendall(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n")
        listener.close()
        listener.pool.join(20)
        for one in waiting:
            with one, suppress(ConnectionError):
                responses.append(one.recv(1000))
        worker.tmp.close()

    # gevent has a loop for each thread; the tests' thread must not get one.
    thread = threading.Thread(target=serve)
    thread.start()
    thread.join(30)

    assert [response[:15] for response in responses] == [b"HTTP/1.1 200 OK"] * 40


def make_worker(application: WSGIApplication) -> Any:
    """Return a worker of the server that handles connections in this process."""
    program = WebProgram("a test", "127.0.0.1", 0, 1, grace_seconds=5, load=lambda: Flask("x"))
    server = WebServer(program)
    cfg = server.cfg
    worker = cfg.worker_class(1, 0, [], server, 30, cfg, Logger(cfg))
    worker.wsgi = application
    return worker


def test_a_stopping_api_completes_its_requests(
    base_settings: Settings, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """The API also closes a connection that waits for its next request."""
    pace = {"echo_tokens_per_second": 15.0, "drain_seconds": 30.0, "api_processes": 1}
    with (
        Service.started(base_settings, tmp_path, **pace) as service,
        requests.Session() as client,
    ):
        assert service.api is not None
        assert client.get(f"{service.url}/healthz", timeout=10).status_code == 200
        responses: list[Any] = []
        secret = service.make_key()["secret"]

        def call() -> None:
            responses.append(
                service.call(
                    "POST",
                    "/api/llm/generate",
                    json={"prompt": "one two three four " * 10, "maxTokens": 40},
                    headers={"x-api-key": secret},
                )
            )

        caller = threading.Thread(target=call)
        caller.start()
        wait_until(lambda: is_running(service), 10)

        service.api.send_signal(signal.SIGTERM)
        service.api.wait(30)
        caller.join(10)

        assert [response.status_code for response in responses] == [200]


def is_running(service: Service) -> bool:
    """Return whether a job runs; its client then waits in the API."""
    with service.sessions() as session:
        return JobState.RUNNING in session.scalars(select(Job.state)).all()


def ask(connection: socket.socket, request: bytes) -> bytes:
    """Send a request for `/healthz`, and return the whole response."""
    connection.sendall(request)
    response = b""
    while not response.endswith(b"}\n"):
        piece = connection.recv(10_000)
        assert piece, response
        response += piece
    return response


def seconds_to_close(connection: socket.socket, trickle: bytes = b"") -> float:
    """Return the seconds until the server closes; send a byte of `trickle` every second."""
    began = time.monotonic()
    connection.settimeout(1.0)
    while time.monotonic() - began < 40:
        try:
            if not connection.recv(1):
                break
        except TimeoutError:
            if trickle:
                connection.send(trickle[:1])
                trickle = trickle[1:]
        except ConnectionError:
            break
    return time.monotonic() - began


@pytest.mark.alone
def test_an_incomplete_head_is_dropped_soon_and_an_idle_connection_is_not(
    service_without_workers: Service,
) -> None:
    whole = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    address = ("127.0.0.1", service_without_workers.settings.api_port)

    def seconds_of_head(first: bytes, trickle: bytes) -> float:
        with socket.create_connection(address, 10) as connection:
            if first:
                ask(connection, first)
            return seconds_to_close(connection, trickle)

    def idle() -> bytes:
        with socket.create_connection(address, 10) as connection:
            ask(connection, whole)
            time.sleep(12)  # longer than a head may take
            return ask(connection, whole)

    cases = {
        "nothing at all": (b"", b""),
        "a first head that trickles": (b"", whole + b" " * 99),
        "a later head that trickles": (whole, b"GET /healthz HTTP/1.1\r\nX-A: " + b"a" * 99),
    }
    with ThreadPoolExecutor() as pool:
        of_idle = pool.submit(idle)
        heads = {name: pool.submit(seconds_of_head, *case) for name, case in cases.items()}
        waits = {name: head.result() for name, head in heads.items()}

    assert all(8 < seconds < 20 for seconds in waits.values()), waits
    assert of_idle.result().startswith(b"HTTP/1.1 200")


@pytest.mark.alone
def test_large_unauthenticated_bodies_delay_no_other_request(service: Service) -> None:
    """A client needs no key to send a large body."""
    must_stop = time.monotonic() + 3
    statuses: set[int] = set()

    def send() -> None:
        with requests.Session() as client:
            while time.monotonic() < must_stop:
                response = client.post(
                    f"{service.url}/api/llm/generate", data=b"a" * 2_000_000, timeout=30
                )
                statuses.add(response.status_code)

    senders = [threading.Thread(target=send) for _ in range(4)]
    for sender in senders:
        sender.start()
    longest = 0.0
    while time.monotonic() < must_stop - 0.5:
        began = time.monotonic()
        assert service.call("GET", "/healthz").status_code == 200
        longest = max(longest, time.monotonic() - began)
    for sender in senders:
        sender.join(60)

    assert statuses == {401}
    assert longest < 1
