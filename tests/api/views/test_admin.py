from __future__ import annotations

import pytest
import redis
from pydantic import SecretStr

from api.app import create_app
from api.services import Services
from core.config.settings import Settings
from models.accounts.user import User
from models.database.base import SessionFactory
from tests.support.factories.rows import ADMIN_EMAIL, ADMIN_PASSWORD
from tests.support.http.accounts import make_admin, register
from tests.support.http.errors import error_of
from tests.support.service import Service


def test_the_overview_counts_users_keys_usage_workers_and_the_queue(service: Service) -> None:
    admin = make_admin(service)
    before = admin.call("GET", "/api/admin/overview").json()
    account = register(service)
    key, off = account.make_key(), account.make_key()
    account.call("PUT", f"/api/keys/{off['id']}", json={"isActive": False})
    used = service.call(
        "POST",
        "/api/llm/generate",
        json={"prompt": "hello", "maxTokens": 3},
        headers={"x-api-key": key["secret"]},
    ).json()["usage"]

    after = admin.call("GET", "/api/admin/overview").json()

    for name, more in {"users": 1, "keys": 2, "activeKeys": 1}.items():
        assert after[name] - before[name] == more
    for time in ("today", "month"):
        assert after[time]["requests"] - before[time]["requests"] == 1
        assert after[time]["succeeded"] - before[time]["succeeded"] == 1
        assert after[time]["successRate"] == 1.0
        for name, kind in (("promptTokens", "prompt"), ("completionTokens", "completion")):
            assert after[time][name] - before[time][name] == used[f"{kind}_tokens"]
    assert (after["openBatches"], after["openLines"], after["heldLines"]) == (0, 0, 0)
    assert after["readyWorkers"] == 1
    assert after["queues"] == {"interactive": 0, "bulk": 0}


def test_workers_report_their_status(service: Service) -> None:
    admin = make_admin(service)

    response = admin.call("GET", "/api/admin/workers").json()

    assert response["queues"] == {"interactive": 0, "bulk": 0}
    (worker,) = response["data"]
    assert worker["isReady"] is True
    assert worker["model"] == service.settings.model_name
    assert {"workerId", "contextLength", "running", "waiting", "tokensPerSecond"} <= set(worker)


@pytest.mark.parametrize("path", ["overview", "workers", "activity"])
def test_only_an_admin_with_a_token_sees_the_dashboard(service: Service, path: str) -> None:
    customer = register(service)
    secret = {"x-api-key": service.make_key()["secret"]}

    by_customer = customer.call("GET", f"/api/admin/{path}")
    by_admins_key = service.call("GET", f"/api/admin/{path}", headers=secret)

    assert (by_customer.status_code, error_of(by_customer)) == (403, "forbidden")
    assert by_admins_key.status_code == 401


def test_without_redis_the_overview_has_the_figures_of_the_database(
    base_settings: Settings, database: SessionFactory, admin: User, redis_client: redis.Redis
) -> None:
    gone = base_settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    app = create_app(Services.from_settings(base_settings)).test_client()
    away = create_app(Services.from_settings(gone)).test_client()
    body = {"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD}
    token = app.post("/api/auth/login", json=body).get_json()["token"]
    headers = {"Authorization": f"Bearer {token}"}

    overview = away.get("/api/admin/overview", headers=headers)
    workers = away.get("/api/admin/workers", headers=headers)

    assert overview.status_code == 200
    assert overview.get_json()["users"] == 1
    assert (overview.get_json()["readyWorkers"], overview.get_json()["queues"]) == (None, None)
    assert workers.status_code == 503
