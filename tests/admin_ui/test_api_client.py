"""The exceptions of the API client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from admin_ui.api_client import ApiRefusal


@contextmanager
def passing_on() -> Iterator[None]:
    yield


def test_a_refusal_passes_through_a_context_manager() -> None:
    refusal = ApiRefusal(409, "conflict", "there is one already")

    with pytest.raises(ApiRefusal) as caught, passing_on():
        raise refusal

    assert caught.value is refusal
    assert refusal in {refusal}
