"""The settings page: name, email and password, through the real API."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import requests

from tests.support.http.accounts import PASSWORD, Account, register
from tests.support.service import CALL_SECONDS, Service


class FormClient:
    """A signed-in browser without JavaScript."""

    def __init__(self, ui_service: Service, account: Account) -> None:
        self._url = ui_service.admin_url
        self._session = requests.Session()
        self.post("/sign-in", email=account.email, password=PASSWORD)

    def get(self, path: str) -> requests.Response:
        """Open a page."""
        return self._session.get(self._url + path, timeout=CALL_SECONDS)

    def post(self, path: str, **form: str) -> requests.Response:
        """Send a form, with the CSRF token of the settings page."""
        page = self.get("/settings")
        token = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
        assert token, page.text
        form["csrf_token"] = token[1]
        return self._session.post(self._url + path, data=form, timeout=CALL_SECONDS)

    def close(self) -> None:
        self._session.close()


@pytest.fixture
def account(ui_service: Service) -> Account:
    """A new customer with a token of the API."""
    return register(ui_service)


@pytest.fixture
def form_client(ui_service: Service, account: Account) -> Iterator[FormClient]:
    """The account's browser."""
    form_client = FormClient(ui_service, account)
    yield form_client
    form_client.close()


def test_a_new_email_needs_the_password(form_client: FormClient, account: Account) -> None:
    new = f"new-{account.email}"

    without = form_client.post("/settings", name="Ann", email=new)
    wrong = form_client.post("/settings", name="Ann", email=new, passwordOfAccount="another one")
    right = form_client.post("/settings", name="Ann", email=new, passwordOfAccount=PASSWORD)

    assert without.status_code == 400
    assert "Enter your current password to change your email." in without.text
    assert wrong.status_code == 403
    assert "This is not the current password." in wrong.text
    assert (right.status_code, "Saved." in right.text) == (200, True)
    assert account.call("GET", "/api/auth/me").json()["email"] == new


def test_a_new_name_needs_no_password(form_client: FormClient, account: Account) -> None:
    response = form_client.post("/settings", name="Ann", email=account.email)

    assert "Saved." in response.text
    assert account.call("GET", "/api/auth/me").json()["name"] == "Ann"


def test_a_new_password_keeps_this_session_and_ends_the_others(
    ui_service: Service, form_client: FormClient, account: Account
) -> None:
    other = FormClient(ui_service, account)
    fields = {"currentPassword": PASSWORD, "newPassword": "a new one", "repeated": "a new one"}

    response = form_client.post("/settings/password", **fields)

    assert "Password changed." in response.text
    assert "Sign in" not in form_client.get("/keys").text
    assert "/sign-in?next=/keys" in other.get("/keys").url
    assert account.call("GET", "/api/auth/me").status_code == 401
    other.close()


def test_a_common_password_is_refused_beside_its_field(form_client: FormClient) -> None:
    fields = {"currentPassword": PASSWORD, "newPassword": "12345678", "repeated": "12345678"}

    response = form_client.post("/settings/password", **fields)

    assert response.status_code == 400
    assert "is one of the most common passwords" in response.text
