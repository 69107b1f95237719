"""Errors of the API as tests read them."""

from __future__ import annotations

from typing import Any


def error_of(response: Any) -> str:
    assert response.headers["content-type"] == "application/json", response.text
    error = response.json()["error"]
    assert set(error) >= {"code", "type", "message", "param", "requestId"}
    assert error["requestId"] == response.headers["x-request-id"]
    return str(error["code"])
