"""What tests of batches share: the rows of their service, and the credentials of a key."""

from __future__ import annotations

import pytest

from models.database.base import SessionFactory
from tests.support.service import Service


@pytest.fixture(scope="module")
def rows(service: Service) -> SessionFactory:
    return service.sessions


@pytest.fixture
def headers(service: Service) -> dict[str, str]:
    return {"x-api-key": service.make_key()["secret"]}
