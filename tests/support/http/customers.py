"""Customers of an API in this process, and the default limits of their keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask.testing import FlaskClient

PASSWORD = "a password of the tests"
DEFAULT_LIMITS = {
    "default_rate_limit": 60,
    "default_token_limit": 1000,
    "default_monthly_token_limit": 50_000,
    "default_max_in_flight": 4,
    "max_keys_per_user": 3,
}
DEFAULT_KEY_LIMITS = {
    "rateLimit": 60,
    "tokenLimit": 1000,
    "monthlyTokenLimit": 50_000,
    "maxInFlight": 4,
}
Call = Callable[..., Any]


def sign_in_as(app: FlaskClient, email: str, password: str) -> Call:
    response = app.post("/api/auth/login", json={"email": email, "password": password})
    headers = {"Authorization": f"Bearer {response.get_json()['token']}"}

    def call(method: str, path: str, **body: Any) -> Any:
        return app.open(path, method=method, json=body, headers=headers)

    return call


def limits_of(response: Any) -> dict[str, Any]:
    return {name: response.get_json().get(name) for name in DEFAULT_KEY_LIMITS}
