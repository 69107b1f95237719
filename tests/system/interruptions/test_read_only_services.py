"""A part that refuses writes counts as away: requests get 503, and `/readyz` names the part."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
import requests
from flask.testing import FlaskClient
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import create_engine, text

from api.app import create_app
from api.runtime.service_metrics import ServiceMetrics
from api.services import Services
from cli.servers.postgres import Postgres
from cli.servers.valkey import Valkey
from core.config.settings import Settings
from core.redis.client import open_redis
from models.database.base import DATABASE_AWAY, is_permanent, open_database, sessions
from models.database.prepared import Statements
from tests.support.http.errors import error_of
from tests.support.polling import wait_until
from tests.support.service import Service

#: Tokens of a generation, and tokens a second; the database becomes read-only while it runs.
TOKENS, PACE = 40, 20.0


@pytest.fixture
def slow_service_of_its_own(
    base_settings: Settings, postgres: Postgres, tmp_path: Path, redis_client: redis.Redis
) -> Iterator[Service]:
    """A service on the PostgreSQL of this test, whose generations take seconds."""
    own = {"DATABASE_URL": postgres.url, "ECHO_TOKENS_PER_SECOND": str(PACE)}
    settings = Settings.from_environment({**base_settings.to_environment(), **own})
    with Service.started(settings, tmp_path / "logs") as service:
        yield service


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey of this test alone."""
    valkey = Valkey(tmp_path / "valkey", log_dir=tmp_path)
    valkey.start()
    yield valkey
    assert valkey.child is not None
    valkey.child.kill()  # without its directory it does not stop by itself


@pytest.fixture
def app(base_settings: Settings, valkey: Valkey) -> Iterator[FlaskClient]:
    """An API in this process, with the test's own Valkey."""
    settings = {**base_settings.to_environment(), "REDIS_URL": valkey.url}
    services = Services.from_settings(Settings.from_environment(settings))
    yield create_app(services).test_client()
    services.jobs.events.close()


def set_read_only(postgres: Postgres, state: str) -> None:
    engine = create_engine(postgres.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("set default_transaction_read_only = off"))
        connection.execute(text(f"alter system set default_transaction_read_only = {state}"))
        connection.execute(text("select pg_reload_conf()"))
    engine.dispose()


def readiness(service: Service) -> tuple[int, dict[str, str]]:
    response = service.call("GET", "/readyz")
    return response.status_code, response.json()["parts"]


def test_a_read_only_database_is_away_until_it_accepts_changes(
    postgres: Postgres, slow_service_of_its_own: Service
) -> None:
    service = slow_service_of_its_own
    headers = {"x-api-key": service.make_key()["secret"]}
    tokens = {"maxTokens": TOKENS, "ignoreEos": True}

    def generate(**body: Any) -> requests.Response:
        return service.call("POST", "/api/llm/generate", json=body, headers=headers)

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(generate, prompt=name * 90, **tokens) for name in "ab"]
        engine = create_engine(postgres.url)
        wait_until(lambda: states(engine) == ["running"] * 2, 20)
        set_read_only(postgres, "on")

        wait_until(lambda: readiness(service)[0] == 503, 5)
        assert readiness(service)[1]["database"] == "read-only"
        refused = generate(prompt="x", maxTokens=1)
        signed_in = service.call(
            "POST", "/api/auth/login", json={"email": "a@b.c", "password": "p"}
        )
        assert b"bountycoder_database_up 0" in metrics_of(service)
        wait_until(lambda: "ReadOnlySqlTransaction" in worker_log(service), 20)
        set_read_only(postgres, "off")

        assert [one.result().status_code for one in running] == [200, 200]
    assert (refused.status_code, error_of(refused)) == (503, "database_unavailable")
    assert int(refused.headers["Retry-After"]) >= 1
    assert signed_in.status_code in (401, 503)
    wait_until(lambda: readiness(service)[0] == 200, 10)
    with engine.connect() as connection:
        attempts = connection.scalars(text("select attempt from jobs")).all()
    engine.dispose()
    assert attempts == [1, 1]
    assert "Traceback" not in service.logs()


def metrics_of(service: Service) -> bytes:
    """Return the service metrics as a scrape would read them now."""
    registry = CollectorRegistry()
    registry.register(ServiceMetrics(service.settings))
    return generate_latest(registry)


def states(engine: Any) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(text("select state from jobs")))


def worker_log(service: Service) -> str:
    return "".join(path.read_text() for path in service.directory.glob("worker-*.log"))


def make_replica(valkey: redis.Redis, _: Path) -> None:
    valkey.replicaof("127.0.0.1", 1)


def fill(valkey: redis.Redis, _: Path) -> None:
    valkey.config_set("maxmemory", "1mb")


def want_replicas(valkey: redis.Redis, _: Path) -> None:
    valkey.config_set("min-replicas-to-write", 1)


def lose_its_disk(valkey: redis.Redis, directory: Path) -> None:
    valkey.config_set("save", "3600 1")
    shutil.rmtree(directory)
    valkey.bgsave()
    wait_until(lambda: valkey.info("persistence")["rdb_last_bgsave_status"] == "err", 10)


def lose_its_password(valkey: redis.Redis, _: Path) -> None:
    valkey.acl_setuser("default", reset_keys=True, enabled=True, keys=["other:*"])


@pytest.mark.parametrize(
    ("spoil", "state"),
    [
        (make_replica, "read-only"),
        (want_replicas, "read-only"),
        (lose_its_disk, "read-only"),
        (fill, "full"),
        (lose_its_password, "away"),
    ],
)
def test_readiness_names_a_redis_that_takes_no_writes(
    app: FlaskClient, valkey: Valkey, base_settings: Settings, spoil: Any, state: str
) -> None:
    assert app.get("/readyz").get_json()["parts"]["redis"] == "ok"
    settings = {**base_settings.to_environment(), "REDIS_URL": valkey.url}
    client = open_redis(Settings.from_environment(settings))

    spoil(client, valkey.directory)

    response = app.get("/readyz")
    client.close()
    assert response.status_code == 503
    assert response.get_json()["parts"] == {"database": "ok", "redis": state, "workers": "unknown"}


@pytest.mark.parametrize(
    ("code", "is_away", "comes_back"),
    [
        ("08006", True, False),  # connection failure
        ("25006", True, False),  # read-only
        ("25P03", True, False),  # this process froze in a transaction
        ("25P02", False, False),  # a fault of ours
        ("40P01", True, False),  # deadlock
        ("42501", True, False),  # permission denied, or a read-only disk
        ("42P01", False, False),  # no such table: a fault of ours
        ("53100", True, False),  # disk full
        ("53200", True, False),  # out of memory
        ("53300", True, False),  # too many connections
        ("53400", True, True),  # too large a temporary file
        ("54001", True, True),  # too complex a statement
        ("55P03", True, False),  # a lock is held
        ("57014", True, True),  # too slow a statement
        ("57P01", True, False),  # shut down
        ("57P03", True, False),  # starting
        ("58030", True, False),  # disk broken
        ("23505", False, False),  # a fault of ours
        ("26000", True, True),  # a statement that the server does not know
        ("XX000", True, True),  # a fault of the server
        ("XX001", True, True),  # broken data
    ],
)
def test_each_error_of_the_server_has_its_class(
    base_settings: Settings, code: str, is_away: bool, comes_back: bool
) -> None:
    """The server itself raises each error, through SQLAlchemy and through the driver alone."""
    raising = f"do $$ begin raise exception 'as if' using errcode = '{code}'; end $$"
    engine = open_database(base_settings, pool_size=1)
    found = []
    with pytest.raises(Exception) as caught, sessions(engine)() as session:
        session.execute(text(raising))
    found.append(caught.value)
    with pytest.raises(Exception) as caught:
        Statements(engine, max_idle=0).run(raising, ())
    found.append(caught.value)
    engine.dispose()

    assert [isinstance(error, DATABASE_AWAY) for error in found] == [is_away] * 2
    assert [is_permanent(error) for error in found] == [comes_back] * 2
