"""The exceptions of the API client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from urllib3 import HTTPResponse

from admin_ui.api_client import ApiRefusal, _read


@contextmanager
def no_change() -> Iterator[None]:
    """Let all exceptions pass."""
    yield


def test_a_refusal_passes_through_a_context_manager() -> None:
    """A context manager assigns to the exception's traceback, and sets need its hash."""
    refusal = ApiRefusal(409, "conflict", "there is one already")

    with pytest.raises(ApiRefusal) as caught, no_change():
        raise refusal

    assert caught.value is refusal
    assert refusal in {refusal}


@pytest.mark.parametrize(
    ("header", "seconds"),
    (("7", 7), ("²", None), ("9" * 5000, None), ("Wed, 25 Nov 2026 18:00:00 GMT", None)),
)
def test_a_refusal_needs_no_seconds_to_wait(header: str, seconds: int | None) -> None:
    error = {"code": "overloaded", "message": "the queue is long"}
    body = json.dumps({"error": error}).encode()
    response = HTTPResponse(body, {"Retry-After": header}, 503, preload_content=True)

    with pytest.raises(ApiRefusal) as caught:
        _read(response)

    assert caught.value.retry_after == seconds
