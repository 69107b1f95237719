"""Helpers for a client of the pages in this process, without JavaScript."""

from __future__ import annotations

import re

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.factories.rows import ADMIN_EMAIL, ADMIN_PASSWORD


def csrf(page: TestResponse) -> str:
    """Return the CSRF token of a page."""
    found = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]


def text_of(page: TestResponse) -> str:
    """Return the text of a page, with single spaces."""
    return " ".join(re.sub(r"<script.*?</script>|<[^>]+>", " ", page.text, flags=re.S).split())


def sign_in(
    pages_client: FlaskClient,
    email: str = ADMIN_EMAIL,
    password: str = ADMIN_PASSWORD,
    wanted: str = "",
) -> TestResponse:
    """Send the form to sign in, and return the response.

    Args:
        wanted: the path to open afterwards.
    """
    token = csrf(pages_client.get("/sign-in"))
    form = {"csrf_token": token, "email": email, "password": password, "next": wanted}
    return pages_client.post("/sign-in", data=form)


SESSION_COOKIE = "bountycoder_session"
