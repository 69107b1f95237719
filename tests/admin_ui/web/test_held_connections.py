"""Whoever waits for a browser or for the API holds no connection to the database meanwhile."""

from __future__ import annotations

import io
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from admin_ui.app import create_app
from admin_ui.services import Services
from core.config.settings import Settings
from models.accounts.user import User
from tests.support.browser.pages import csrf, sign_in
from tests.support.webhook_receiver import receiving


def connections(app: Flask) -> int:
    """Return how many of the program's connections to the database are taken."""
    services: Services = app.extensions["bountycoder"]
    return int(services.sessions.kw["bind"].pool.checkedout())


class Slow(io.BytesIO):
    """A body that notes what is held while it comes."""

    def __init__(self, app: Flask, content: bytes) -> None:
        super().__init__(content)
        self._app = app
        self.held: list[int] = []

    def read(self, size: int | None = -1, /) -> bytes:
        self.held.append(connections(self._app))
        return super().read(size)

    def readinto(self, buffer: Any, /) -> int:
        self.held.append(connections(self._app))
        return super().readinto(buffer)


@pytest.mark.parametrize("path", ["/batches/new", "/settings", "/nowhere"])
def test_a_form_that_comes_slowly_holds_none(browser: FlaskClient, path: str) -> None:
    sign_in(browser)
    content = b"name=" + b"x" * 30_000
    body = Slow(browser.application, content)

    browser.post(
        path,
        input_stream=body,
        content_length=len(content),
        content_type="application/x-www-form-urlencoded",
    )

    assert body.held
    assert set(body.held) == {0}


def test_a_call_of_the_api_holds_none(base_settings: Settings, admin: User) -> None:
    held: list[int] = []

    def answer(number: int) -> tuple[int, dict[str, str]]:
        held.append(connections(app))
        return 500, {}

    with receiving(answer) as receiver:
        settings = base_settings.model_copy(update={"api_url": receiver.url})
        app = create_app(Services.from_settings(settings))
        browser = app.test_client()
        sign_in(browser)
        form = {"csrf_token": csrf(browser.get("/settings")), "name": "n", "email": "e@e.de"}
        for path in ("/keys/new", "/customers/new", "/playground", "/playground/stream"):
            assert browser.post(path, data=form).status_code == 503, path

    assert held == [0, 0, 0, 0]
