"""Accounts that tests of the API begin with."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from flask.testing import FlaskClient

from api.auth.tokens import issue_tokens
from api.services import services
from core.ids import new_id
from models.accounts.session import SessionKind, begin_session
from models.accounts.user import User
from tests.support.service import Service

PASSWORD = "a password of the tests"


@dataclass(frozen=True)
class Account:
    """A user who is signed in."""

    service: Service
    id: str
    email: str
    token: str = field(repr=False)
    refresh_token: str = field(repr=False)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def call(self, method: str, path: str, **options: Any) -> Any:
        return self.service.call(method, path, headers=self.headers, **options)

    def make_key(self, **fields: Any) -> dict[str, Any]:
        answer = self.call("POST", "/api/keys", json={"name": "key", **fields})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


def register(service: Service, *, sent: dict[str, str] | None = None, **fields: Any) -> Account:
    """Return a new customer; `sent` are further headers."""
    body = {"email": f"{new_id().hex}@example.com", "password": PASSWORD, **fields}
    answer = service.call("POST", "/api/auth/register", json=body, headers=sent)
    return _account(service, answer)


def sign_in(service: Service, email: str, password: str = PASSWORD) -> Account:
    body = {"email": email, "password": password}
    return _account(service, service.call("POST", "/api/auth/login", json=body))


def make_admin(service: Service) -> Account:
    """Return a new admin."""
    email = f"{new_id().hex}@example.com"
    body = {"email": email, "password": PASSWORD, "role": "admin"}
    made = service.call("POST", "/api/users", json=body, headers=service.sign_in_admin())
    assert made.status_code == 201, made.text
    return sign_in(service, email)


def signed_in(app: FlaskClient, user: User) -> dict[str, str]:
    """Return the headers of a new session of a user, in this process and without a password."""
    with app.application.app_context():
        with services().database.sessions.begin() as session:
            session_id = begin_session(session, user.id, SessionKind.API, life=timedelta(hours=1))
        token, _ = issue_tokens(user.id, user.token_version, session_id=session_id, number=0)
    return {"Authorization": f"Bearer {token}"}


def _account(service: Service, answer: Any) -> Account:
    assert answer.status_code in {200, 201}, answer.text
    signed_in = answer.json()
    return Account(
        service=service,
        id=signed_in["user"]["id"],
        email=signed_in["user"]["email"],
        token=signed_in["token"],
        refresh_token=signed_in["refreshToken"],
    )
