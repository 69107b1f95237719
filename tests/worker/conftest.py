"""Fixtures that tests of several rooms of the worker share."""

from __future__ import annotations

import pytest

from models.accounts.api_key import ApiKey
from models.database.base import SessionFactory
from tests.support.factories.rows import add_key


@pytest.fixture
def key(database: SessionFactory) -> ApiKey:
    """An API key of a new user."""
    with database.begin() as session:
        return add_key(session)
