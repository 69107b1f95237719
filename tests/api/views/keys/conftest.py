"""The customer whose keys the tests create and change."""

from __future__ import annotations

import pytest

from tests.support.http.accounts import register
from tests.support.service import Service


@pytest.fixture
def customer(service: Service) -> dict[str, str]:
    """The headers of a signed-in customer."""
    return register(service).headers
