"""Applications of the API in this process, and those who call them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from api.app import create_app
from api.services import Services
from core.config.settings import Settings
from models.accounts.user import User, create_user
from models.database.base import SessionFactory
from tests.support.factories.rows import ADMIN_EMAIL, ADMIN_PASSWORD, hash_quickly
from tests.support.http.customers import PASSWORD, Call, sign_in_as


@pytest.fixture
def app_with(
    base_settings: Settings, database: SessionFactory, redis_client: redis.Redis
) -> Iterator[Callable[..., FlaskClient]]:
    """Return a function that creates API applications with changed settings."""
    opened = []

    def make(**changes: Any) -> FlaskClient:
        services = Services.from_settings(base_settings.model_copy(update=changes))
        opened.append(services)
        return create_app(services).test_client()

    yield make
    for services in opened:
        services.jobs.events.close()


@pytest.fixture
def app(app_with: Callable[..., FlaskClient]) -> FlaskClient:
    """An application on an empty database and an empty Valkey."""
    return app_with()


@pytest.fixture
def customer(app: FlaskClient, database: SessionFactory) -> Call:
    """A signed-in customer."""
    with database.begin() as session:
        create_user(session, email="c@example.com", password_hash=hash_quickly(PASSWORD))
    return sign_in_as(app, "c@example.com", PASSWORD)


@pytest.fixture
def administrator(app: FlaskClient, admin: User) -> Call:
    """A signed-in admin."""
    return sign_in_as(app, ADMIN_EMAIL, ADMIN_PASSWORD)
