"""Settings: the own email and password, through the real API."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import requests

from tests.support.http.accounts import PASSWORD, Account, register
from tests.support.service import CALL_SECONDS, Service


class Walker:
    """A browser without JavaScript that is signed in."""

    def __init__(self, site: Service, account: Account) -> None:
        self._url = site.admin_url
        self._session = requests.Session()
        self.post("/sign-in", email=account.email, password=PASSWORD)

    def get(self, path: str) -> requests.Response:
        return self._session.get(self._url + path, timeout=CALL_SECONDS)

    def post(self, path: str, **form: str) -> requests.Response:
        page = self.get("/settings")
        token = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
        assert token, page.text
        form["csrf_token"] = token[1]
        return self._session.post(self._url + path, data=form, timeout=CALL_SECONDS)

    def close(self) -> None:
        self._session.close()


@pytest.fixture
def account(site: Service) -> Account:
    return register(site)


@pytest.fixture
def walker(site: Service, account: Account) -> Iterator[Walker]:
    walker = Walker(site, account)
    yield walker
    walker.close()


def test_a_new_email_needs_the_password(walker: Walker, account: Account) -> None:
    new = f"new-{account.email}"

    without = walker.post("/settings", name="Ann", email=new)
    wrong = walker.post("/settings", name="Ann", email=new, passwordOfAccount="another one")
    right = walker.post("/settings", name="Ann", email=new, passwordOfAccount=PASSWORD)

    assert without.status_code == 400
    assert "Enter your current password to change your email." in without.text
    assert wrong.status_code == 403
    assert "This is not the current password." in wrong.text
    assert (right.status_code, "Saved." in right.text) == (200, True)
    assert account.call("GET", "/api/auth/me").json()["email"] == new


def test_a_new_name_needs_no_password(walker: Walker, account: Account) -> None:
    answer = walker.post("/settings", name="Ann", email=account.email)

    assert "Saved." in answer.text
    assert account.call("GET", "/api/auth/me").json()["name"] == "Ann"


def test_a_new_password_keeps_this_session_and_ends_the_others(
    site: Service, walker: Walker, account: Account
) -> None:
    other = Walker(site, account)
    fields = {"currentPassword": PASSWORD, "newPassword": "a new one", "repeated": "a new one"}

    answer = walker.post("/settings/password", **fields)

    assert "Password changed." in answer.text
    assert "Sign in" not in walker.get("/keys").text
    assert "/sign-in?next=/keys" in other.get("/keys").url
    assert account.call("GET", "/api/auth/me").status_code == 401
    other.close()


def test_a_common_password_is_refused_beside_its_field(walker: Walker) -> None:
    fields = {"currentPassword": PASSWORD, "newPassword": "12345678", "repeated": "12345678"}

    answer = walker.post("/settings/password", **fields)

    assert answer.status_code == 400
    assert "is one of the most common passwords" in answer.text
