"""A request that waits for the browser or the API holds no database connection."""

from __future__ import annotations

import io
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from admin_ui.app import create_app
from admin_ui.services import PageServices
from core.config.settings import Settings
from models.accounts.user import User
from tests.support.browser.pages import csrf, sign_in
from tests.support.webhook_receiver import receiving


def connections(app: Flask) -> int:
    """Return how many connections of the database pool are in use."""
    services: PageServices = app.extensions["bountycoder"]
    return int(services.sessions.kw["bind"].pool.checkedout())


class SlowBody(io.BytesIO):
    """A request body that records the held connections at each read."""

    def __init__(self, app: Flask, content: bytes) -> None:
        super().__init__(content)
        self._app = app
        self.held: list[int] = []

    def read(self, size: int | None = -1, /) -> bytes:
        """Record the held connections, then read."""
        self.held.append(connections(self._app))
        return super().read(size)

    def readinto(self, buffer: Any, /) -> int:
        """Record the held connections, then read."""
        self.held.append(connections(self._app))
        return super().readinto(buffer)


@pytest.mark.parametrize("path", ["/batches/new", "/settings", "/nowhere"])
def test_a_slow_form_holds_no_connection(pages_client: FlaskClient, path: str) -> None:
    sign_in(pages_client)
    content = b"name=" + b"x" * 30_000
    body = SlowBody(pages_client.application, content)

    pages_client.post(
        path,
        input_stream=body,
        content_length=len(content),
        content_type="application/x-www-form-urlencoded",
    )

    assert body.held
    assert set(body.held) == {0}


def test_a_call_of_the_api_holds_no_connection(base_settings: Settings, admin: User) -> None:
    held: list[int] = []

    def respond(number: int) -> tuple[int, dict[str, str]]:
        held.append(connections(app))
        return 500, {}

    with receiving(respond) as receiver:
        settings = base_settings.model_copy(update={"api_url": receiver.url})
        app = create_app(PageServices.from_settings(settings))
        pages_client = app.test_client()
        sign_in(pages_client)
        form = {"csrf_token": csrf(pages_client.get("/settings")), "name": "n", "email": "e@e.de"}
        for path in ("/keys/new", "/customers/new", "/playground", "/playground/stream"):
            assert pages_client.post(path, data=form).status_code == 503, path

    assert held == [0, 0, 0, 0]
