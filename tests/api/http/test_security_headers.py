from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from api.app import create_app
from api.services import Services
from core.config.settings import AppEnv, Settings
from models.database.base import SessionFactory

PAGE = "https://app.example.com"
PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
}


@pytest.fixture
def app(base_settings: Settings, database: SessionFactory, client: redis.Redis) -> FlaskClient:
    changes = {"cors_origins": f"{PAGE}, http://localhost:5173"}
    return app_with(base_settings, **changes)


def app_with(settings: Settings, **changes: Any) -> FlaskClient:
    services = Services.from_settings(settings.model_copy(update=changes))
    return create_app(services).test_client()


def answers(app: FlaskClient) -> Iterator[Any]:
    """Yield one answer of each kind: fine, refused, unknown, not allowed, malformed."""
    yield app.get("/healthz")
    yield app.get("/api/auth/me")
    yield app.get("/nothing")
    yield app.delete("/api/auth/login")
    yield app.post("/api/auth/login", data="{", content_type="application/json")
    yield app.options("/api/auth/login")


def test_every_answer_has_the_headers_of_an_api(app: FlaskClient) -> None:
    for answer in answers(app):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        policy = answer.headers["content-security-policy"]
        assert policy == "default-src 'none'; frame-ancestors 'none'"
        assert "strict-transport-security" not in answer.headers
        assert "Werkzeug" not in answer.headers.get("server", "")


def test_production_asks_for_https(base_settings: Settings) -> None:
    app = app_with(base_settings, app_env=AppEnv.PRODUCTION)

    for answer in answers(app):
        assert answer.headers["strict-transport-security"].startswith("max-age=31536000")


def test_a_listed_page_may_read_answers_and_their_headers(app: FlaskClient) -> None:
    for origin in (PAGE, "http://localhost:5173"):
        answer = app.get("/api/auth/me", headers={"Origin": origin})

        assert answer.status_code == 401
        assert answer.headers["access-control-allow-origin"] == origin
        assert "Origin" in answer.headers["vary"].title()
        exposed = set(answer.headers["access-control-expose-headers"].split(", "))
        assert exposed >= {
            "x-request-id",
            "x-ratelimit-remaining-requests",
            "x-ratelimit-reset-tokens",
            "retry-after",
            "location",
        }
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example.com",
        "http://app.example.com",
        "https://app.example.com.evil.com",
        "https://app.example.com:444",
        "null",
        "*",
        "",
    ],
)
def test_another_page_may_not(app: FlaskClient, origin: str) -> None:
    for answer in (
        app.get("/healthz", headers={"Origin": origin}),
        app.options("/api/keys", headers={**PREFLIGHT, "Origin": origin}),
    ):
        assert not [name for name, _ in answer.headers if "access-control" in name.lower()]
        assert "Origin" in answer.headers["vary"].title()


def test_a_preflight_is_answered_without_credentials(app: FlaskClient) -> None:
    answer = app.options("/api/llm/generate", headers=PREFLIGHT)

    assert (answer.status_code, answer.data) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-allow-methods"] == "GET, POST, PUT, DELETE"
    allowed = answer.headers["access-control-allow-headers"]
    assert allowed == PREFLIGHT["Access-Control-Request-Headers"]
    assert int(answer.headers["access-control-max-age"]) > 0


@pytest.mark.parametrize("names", ["x" * 65, "a b", "a;b", ",", ",".join("abc" for _ in range(60))])
def test_names_of_headers_that_are_none_are_not_repeated(app: FlaskClient, names: str) -> None:
    answer = app.options(
        "/api/keys", headers={**PREFLIGHT, "Access-Control-Request-Headers": names}
    )

    assert "access-control-allow-headers" not in answer.headers


def test_without_a_list_no_page_may(base_settings: Settings) -> None:
    answer = app_with(base_settings).options("/api/keys", headers=PREFLIGHT)

    assert not [name for name, _ in answer.headers if "access-control" in name.lower()]
