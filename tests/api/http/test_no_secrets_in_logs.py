"""Logs never contain a secret, password, prompt or completion, even of failed requests."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy import create_engine, text

from core.config.settings import Settings
from tests.support.http.accounts import register
from tests.support.polling import wait_until
from tests.support.service import Service

PROMPT = "all that you know about zanzibar"
PASSWORD = "password of zanzibar"
MARK = "zanzibar"

#: Constraints that some rows break. PostgreSQL quotes the whole row in its error.
BROKEN = {
    "jobs": "request->>'prompt' not like '%break%'",
    "api_keys": "name not like '%break%'",
    "users": "name not like '%break%'",
}


@pytest.fixture
def own_service(
    base_settings: Settings, migrated_database_url: str, redis_client: redis.Redis, tmp_path: Path
) -> Iterator[Service]:
    """A service with log level DEBUG, whose database refuses some rows."""
    engine = create_engine(migrated_database_url)
    with engine.begin() as connection:
        for table, check in BROKEN.items():
            connection.execute(text(f"alter table {table} add constraint broken check ({check})"))
    engine.dispose()
    settings = base_settings.to_environment() | {
        "DATABASE_URL": migrated_database_url,
        "LOG_LEVEL": "DEBUG",
        "DEBUG": "true",
    }
    with Service.started(Settings.from_environment(settings), tmp_path) as running:
        yield running


def test_no_secret_and_no_prompt_is_logged(own_service: Service) -> None:
    service = own_service
    account = register(service, password=PASSWORD)
    key = account.make_key(name=f"key of {MARK}")
    secrets = {key["secret"], account.token, account.refresh_token}
    by_key = {"x-api-key": key["secret"], "x-request-id": "the-last-one"}

    def post(path: str, headers: dict[str, str] | None = None, **body: object) -> int:
        return service.call("POST", path, headers=headers, json=body).status_code

    generate = "/api/llm/generate"
    assert post(generate, by_key, prompt=PROMPT, maxTokens=20) == 200
    assert post(generate, by_key, prompt=PROMPT, maxTokens=0) == 400
    assert post(generate, by_key, prompt=PROMPT * 50_000) == 400
    assert post(generate, by_key, prompt=PROMPT, surprise=PROMPT) == 400
    assert post(generate, by_key, messages=[{"role": PROMPT, "content": PROMPT}]) == 400
    assert post(generate, {"x-api-key": key["secret"][:-1] + "?"}, prompt=PROMPT) == 401
    assert post(generate, {"Authorization": f"Bearer {account.token}x"}, prompt=PROMPT) == 401
    broken = {"content-type": "application/json", **by_key}
    for body in (b'{"prompt": "' + PROMPT.encode(), b"x" * 3_000_000 + PROMPT.encode()):
        assert service.call("POST", generate, headers=broken, data=body).status_code in {400, 413}
    assert post("/api/auth/login", email=account.email, password=PASSWORD + "!") == 401
    assert post("/api/auth/login", email=PASSWORD, password=PASSWORD) == 401
    assert post("/api/auth/register", email="a@b.c", password=PASSWORD, x=PASSWORD) == 400
    assert post("/api/auth/register", email=account.email, password=PASSWORD) == 409
    assert post("/api/auth/refresh", refreshToken=account.refresh_token + "x") == 401
    rotated = account.call("POST", f"/api/keys/{key['id']}/rotate", json={}).json()
    secrets.add(rotated["secret"])
    by_key["x-api-key"] = rotated["secret"]
    # Each of these is an internal error: the row is valid and the database refuses it.
    assert post(generate, by_key, prompt=f"{PROMPT} and break") == 500
    assert post("/api/keys", account.headers, name="break") == 500
    assert post("/api/auth/register", email="d@e.f", password=PASSWORD, name="break") == 500
    _send_malformed_http(service, rotated["secret"])

    wait_until(lambda: service.logs().count("unexpected error") == 3, 10, service.logs)
    wait_until(lambda: "a request is malformed" in service.logs(), 10, service.logs)
    logs = service.logs()
    assert logs.count("the-last-one") > 5
    assert "CheckViolation" in logs
    assert [line for line in logs.splitlines() if MARK in line.lower()] == []
    parts = {part for secret in secrets for part in (secret, secret[16:], secret[-20:])}
    assert [part for part in parts if part in logs] == []
    for word in ("argon2id", "Failing row", "secret_hash"):
        assert word not in logs


def _send_malformed_http(service: Service, secret: str) -> None:
    address = ("127.0.0.1", service.settings.api_port)
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nAuthorization Bearer {secret}\r\n\r\n".encode())
        response = connection.recv(65536)
    assert response.startswith(b"HTTP/1.1 400 ")
    assert secret.encode() not in response
