"""An API with prices, two customers with usage, and the callers who read it."""

from __future__ import annotations

import pytest
import redis
from flask.testing import FlaskClient

from api.app import create_app
from api.services import Services
from core.config.settings import Settings
from core.security.api_key_secret import KeySecret
from models.accounts.api_key import ApiKey, create_key
from models.accounts.user import User, create_user
from models.database.base import SessionFactory
from models.jobs.job import JobState
from tests.support.factories.rows import ADMIN_EMAIL, ADMIN_PASSWORD, hash_quickly
from tests.support.factories.usage import HOUR, NOON, add_usage
from tests.support.http.usage_reader import UsageReader

PASSWORD = "a password of the tests"


@pytest.fixture
def app(
    base_settings: Settings, database: SessionFactory, redis_client: redis.Redis
) -> FlaskClient:
    prices = {
        "price_per_million_prompt_tokens": "0.15",
        "price_per_million_completion_tokens": "0.5",
        "currency": "EUR",
    }
    environment = {**base_settings.to_environment(), **{k.upper(): v for k, v in prices.items()}}
    settings = Settings.from_environment(environment)
    return create_app(Services.from_settings(settings)).test_client()


@pytest.fixture
def keys(database: SessionFactory) -> list[tuple[ApiKey, KeySecret]]:
    """The keys of two customers with usage: the heavy user's and the light user's."""
    with database.begin() as session:
        made = []
        for name in ("much", "little"):
            user = create_user(
                session, email=f"{name}@example.com", password_hash=hash_quickly(PASSWORD)
            )
            made.append(create_key(session, user_id=user.id, name=name, rate_limit=60))
        for ms in (10, 10, 10, 4000):
            add_usage(session, made[0][0], ms=ms)
        add_usage(session, made[0][0], NOON + HOUR, ms=10, state=JobState.FAILED)
        add_usage(session, made[1][0], model="other")
    return made


@pytest.fixture
def heavy_user(app: FlaskClient, keys: object) -> UsageReader:
    return sign_in(app, "much@example.com")


@pytest.fixture
def all_users(app: FlaskClient, keys: object, admin: User) -> UsageReader:
    return sign_in(app, ADMIN_EMAIL, ADMIN_PASSWORD)


def sign_in(app: FlaskClient, email: str, password: str = PASSWORD) -> UsageReader:
    response = app.post("/api/auth/login", json={"email": email, "password": password})
    return UsageReader(app, {"Authorization": f"Bearer {response.get_json()['token']}"})
