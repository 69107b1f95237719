"""The pages as a browser without JavaScript walks them, in this process."""

from __future__ import annotations

import re

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.conftest import ADMIN_EMAIL, ADMIN_PASSWORD


def csrf(page: TestResponse) -> str:
    """Return the token of a page's forms."""
    found = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]


def text_of(page: TestResponse) -> str:
    """Return the words of a page, one space between any two."""
    return " ".join(re.sub(r"<script.*?</script>|<[^>]+>", " ", page.text, flags=re.S).split())


def sign_in(
    browser: FlaskClient, email: str = ADMIN_EMAIL, password: str = ADMIN_PASSWORD, wanted: str = ""
) -> TestResponse:
    token = csrf(browser.get("/sign-in"))
    form = {"csrf_token": token, "email": email, "password": password, "next": wanted}
    return browser.post("/sign-in", data=form)
