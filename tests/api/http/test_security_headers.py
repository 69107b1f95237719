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
def app(
    base_settings: Settings, database: SessionFactory, redis_client: redis.Redis
) -> FlaskClient:
    changes = {"cors_origins": f"{PAGE}, http://localhost:5173"}
    return app_with(base_settings, **changes)


def app_with(settings: Settings, **changes: Any) -> FlaskClient:
    services = Services.from_settings(settings.model_copy(update=changes))
    return create_app(services).test_client()


def responses(app: FlaskClient) -> Iterator[Any]:
    """Yield one response of each kind: success, 401, 404, 405, 400 and a preflight."""
    yield app.get("/healthz")
    yield app.get("/api/auth/me")
    yield app.get("/nothing")
    yield app.delete("/api/auth/login")
    yield app.post("/api/auth/login", data="{", content_type="application/json")
    yield app.options("/api/auth/login")


def test_every_response_has_the_headers_of_an_api(app: FlaskClient) -> None:
    for response in responses(app):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert response.headers["cache-control"] == "no-store"
        policy = response.headers["content-security-policy"]
        assert policy == "default-src 'none'; frame-ancestors 'none'"
        assert "strict-transport-security" not in response.headers
        assert "Werkzeug" not in response.headers.get("server", "")


def test_production_requires_https(base_settings: Settings) -> None:
    app = app_with(base_settings, app_env=AppEnv.PRODUCTION)

    for response in responses(app):
        assert response.headers["strict-transport-security"].startswith("max-age=31536000")


def test_an_allowed_origin_may_read_responses_and_their_headers(app: FlaskClient) -> None:
    for origin in (PAGE, "http://localhost:5173"):
        response = app.get("/api/auth/me", headers={"Origin": origin})

        assert response.status_code == 401
        assert response.headers["access-control-allow-origin"] == origin
        assert "Origin" in response.headers["vary"].title()
        exposed = set(response.headers["access-control-expose-headers"].split(", "))
        assert exposed >= {
            "x-request-id",
            "x-ratelimit-remaining-requests",
            "x-ratelimit-reset-tokens",
            "retry-after",
            "location",
        }
        assert "access-control-allow-credentials" not in response.headers


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
def test_another_origin_gets_no_cors_headers(app: FlaskClient, origin: str) -> None:
    for response in (
        app.get("/healthz", headers={"Origin": origin}),
        app.options("/api/keys", headers={**PREFLIGHT, "Origin": origin}),
    ):
        assert not [name for name, _ in response.headers if "access-control" in name.lower()]
        assert "Origin" in response.headers["vary"].title()


def test_a_preflight_needs_no_credentials(app: FlaskClient) -> None:
    response = app.options("/api/llm/generate", headers=PREFLIGHT)

    assert (response.status_code, response.data) == (204, b"")
    assert response.headers["access-control-allow-origin"] == PAGE
    assert response.headers["access-control-allow-methods"] == "GET, POST, PUT, DELETE"
    allowed = response.headers["access-control-allow-headers"]
    assert allowed == PREFLIGHT["Access-Control-Request-Headers"]
    assert int(response.headers["access-control-max-age"]) > 0


@pytest.mark.parametrize("names", ["x" * 65, "a b", "a;b", ",", ",".join("abc" for _ in range(60))])
def test_malformed_header_names_are_not_repeated(app: FlaskClient, names: str) -> None:
    response = app.options(
        "/api/keys", headers={**PREFLIGHT, "Access-Control-Request-Headers": names}
    )

    assert "access-control-allow-headers" not in response.headers


def test_without_allowed_origins_no_origin_gets_cors_headers(base_settings: Settings) -> None:
    response = app_with(base_settings).options("/api/keys", headers=PREFLIGHT)

    assert not [name for name, _ in response.headers if "access-control" in name.lower()]
