from __future__ import annotations

import pytest
import redis
from flask.testing import FlaskClient

from admin_ui.app import create_app
from admin_ui.services import Services
from core.settings import Settings
from models.user import User


@pytest.fixture
def browser(base_settings: Settings, admin: User, client: redis.Redis) -> FlaskClient:
    """The pages over an empty database with an admin; nobody is signed in."""
    return create_app(Services.from_settings(base_settings)).test_client()
