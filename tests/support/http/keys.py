"""Keys of a running service: how tests create, change and use them."""

from __future__ import annotations

from typing import Any

from tests.support.http.errors import error_of
from tests.support.service import Service


def make(service: Service, headers: dict[str, str], **body: Any) -> Any:
    """Return the response to a request for a new key."""
    return service.call("POST", "/api/keys", json={"name": "k", **body}, headers=headers)


def call(service: Service, headers: dict[str, str], method: str, path: str, **body: Any) -> Any:
    """Send a request of a user; the fields are its JSON body."""
    return service.call(method, path, headers=headers, json=body or None)


def use(service: Service, secret: str) -> tuple[int, str | None]:
    """Return the status and error code of a call with this secret."""
    response = service.call("GET", "/api/llm/models", headers={"Authorization": f"Bearer {secret}"})
    return response.status_code, error_of(response) if response.status_code >= 400 else None
