"""Users whom tests of the API register or create, and their credentials."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import jwt
from flask.testing import FlaskClient

from api.auth.tokens import issue_tokens
from api.services import services
from core.ids import new_id
from models.accounts.session import SessionKind, begin_session
from models.accounts.user import User
from tests.support.http.errors import error_of
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
        response = self.call("POST", "/api/keys", json={"name": "key", **fields})
        assert response.status_code == 201, response.text
        return dict(response.json())


def register(service: Service, *, sent: dict[str, str] | None = None, **fields: Any) -> Account:
    """Return a new customer; `sent` has further headers of the request."""
    body = {"email": f"{new_id().hex}@example.com", "password": PASSWORD, **fields}
    response = service.call("POST", "/api/auth/register", json=body, headers=sent)
    return _account(service, response)


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
    """Return the headers of a new session of a user, made without a password or HTTP call."""
    with app.application.app_context():
        with services().database.sessions.begin() as session:
            session_id = begin_session(session, user.id, SessionKind.API, life=timedelta(hours=1))
        token, _ = issue_tokens(user.id, user.token_version, session_id=session_id, number=0)
    return {"Authorization": f"Bearer {token}"}


def me_with(service: Service, token: str) -> tuple[int, str]:
    """Return the status and the error code of a call with a JWT that is refused."""
    response = service.call("GET", "/api/auth/me", headers={"Authorization": f"Bearer {token}"})
    return response.status_code, error_of(response)


def signed(service: Service, payload: dict[str, Any]) -> str:
    """Return a JWT with this payload, signed with the service's secret."""
    return jwt.encode(payload, service.settings.secret_key.get_secret_value(), "HS256")


def _account(service: Service, response: Any) -> Account:
    assert response.status_code in {200, 201}, response.text
    signed_in = response.json()
    return Account(
        service=service,
        id=signed_in["user"]["id"],
        email=signed_in["user"]["email"],
        token=signed_in["token"],
        refresh_token=signed_in["refreshToken"],
    )
