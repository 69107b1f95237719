"""The key with which tests of generations call the service."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.service import Service


@pytest.fixture(scope="module")
def key(service: Service) -> dict[str, Any]:
    return service.make_key()
