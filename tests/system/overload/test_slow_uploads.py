"""Slow uploads do not block other requests."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, closing

import pytest
import redis

from core.config.settings import Settings
from tests.support.http.accounts import register
from tests.support.http.batch_files import jsonl, requests_of, send
from tests.support.http.errors import error_of
from tests.support.service import Service

#: Users who send files slowly. Their uploads are more than the upload slots.
SENDERS = 4


def begin_to_send(service: Service, secret: str) -> socket.socket:
    """Send the head of an upload and its first bytes."""
    connection = socket.create_connection(("127.0.0.1", service.settings.api_port), 10)
    connection.sendall(
        b"POST /api/llm/batches HTTP/1.1\r\nHost: x\r\nContent-Type: application/jsonl\r\n"
        + f"x-api-key: {secret}\r\nContent-Length: 1000000\r\n\r\n".encode()
        + b'{"prompt":'
    )
    return connection


def test_slow_uploads_block_no_other_user_and_a_user_has_at_most_two(
    single_process_service: Service,
) -> None:
    with ExitStack() as held:
        for _ in range(SENDERS):
            secret = register(single_process_service).make_key()["secret"]
            for _ in range(2):
                held.enter_context(closing(begin_to_send(single_process_service, secret)))
        own = {"x-api-key": secret}
        other = {"x-api-key": register(single_process_service).make_key()["secret"]}

        third = send(single_process_service, own, jsonl(*requests_of(2)))
        response = send(single_process_service, other, jsonl(*requests_of(2)))

        assert (third.status_code, error_of(third)) == (429, "too_many_uploads")
        assert int(third.headers["Retry-After"]) >= 1
        assert response.status_code == 201, response.text


def test_slow_bodies_cause_no_load_shedding(
    base_settings: Settings, redis_client: redis.Redis, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("shedding")
    changes = {"workers": 0, "api_processes": 1, "max_admission_seconds": 1.0}
    with (
        Service.started(base_settings, directory, **changes) as service,  # type: ignore[arg-type]
        ExitStack() as held,
    ):
        key = {"x-api-key": service.make_key()["secret"]}
        head = (
            b"POST /api/llm/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"x-api-key: {key['x-api-key']}\r\nContent-Length: 100\r\n\r\n{{".encode()
        )
        for _ in range(20):
            connection = socket.create_connection(("127.0.0.1", service.settings.api_port), 10)
            held.enter_context(closing(connection)).sendall(head)
        time.sleep(1.5)  # longer than max_admission_seconds

        response = service.call("POST", "/api/llm/jobs", json={"prompt": "x"}, headers=key)

        assert response.status_code == 202, response.text
