"""The real parts that tests run against: PostgreSQL, Valkey, the small model, processes of ours."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import redis
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.orm import Session
from tokenizers import Tokenizer

from cli.servers.postgres import SERVER_SETTINGS, Postgres
from cli.servers.valkey import Valkey
from core.config.settings import Settings
from core.prompts import tokenizer as prompt_tokenizer
from core.prompts.model_files import ModelFiles
from core.prompts.tokenizer import PromptTokenizer
from core.redis.client import open_redis
from migrations.run import upgrade
from models.accounts.user import User
from models.database.base import SessionFactory, open_database, sessions
from tests.support.browser.weight import OUTPUT, table_of
from tests.support.factories.rows import add_admin
from tests.support.service import Service, empty_tables
from tests.support.small_model import SMALL_MODEL, small_model_dir
from worker.text.token_bytes import TokenBytes

pytest_plugins = ["tests.support.parallel", "tests.support.selection"]
# Threads of torch that wait for each other sleep, here and in the programs that tests start: beside
# other tests they would keep the processor from the one they wait for. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Each run has the same examples, so a new failure comes from the change at hand. Neither a busy
# machine nor a fixture that examples share is a fault. `--hypothesis-profile=default` is random.
hypothesis.settings.register_profile(
    "tests",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
hypothesis.settings.load_profile("tests")
# A run in the background is begun with these ignored, and so would be all that it starts.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

SECRET = "a secret of the tests, longer than 32 characters"
ADMIN_EMAIL = "admin@bountycoder.com"
ADMIN_PASSWORD = "admin123"
#: Of the run's PostgreSQL, which up to five services use at once.
MAX_CONNECTIONS = "300"
#: A database with our schema that others are copied from: much sooner than by the migrations.
MIGRATED = "migrated"
#: Tokens a second of each stream of the `slow_service` service.
PACE = 25.0


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the cost of each page that a browser checked, in any process."""
    reports = [report for group in terminalreporter.stats.values() for report in group]
    properties = [p for report in reports for p in getattr(report, "user_properties", ())]
    table = table_of(properties)
    if table:
        OUTPUT.mkdir(parents=True, exist_ok=True)
        (OUTPUT / "costs.txt").write_text(table)
        terminalreporter.section("cost of pages")
        terminalreporter.write(table)
        terminalreporter.line(f"pictures (of failures, or of all with PICTURES=1): {OUTPUT}")


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Postgres, Valkey]]:
    """A PostgreSQL with our schema and a Valkey, for the whole run."""
    directory = tmp_path_factory.mktemp("servers")
    logs = directory / "logs"
    logs.mkdir()
    postgres = Postgres(directory / "postgres", log_dir=logs, is_durable=False)
    valkey = Valkey(directory / "valkey", log_dir=logs)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(SERVER_SETTINGS, "max_connections", MAX_CONNECTIONS)
            postgres.start()
        valkey.start()
        upgrade(postgres.url)
        with _maintenance(postgres.url) as connection:
            main = postgres.url.rpartition("/")[2].partition("?")[0]
            connection.execute(text(f"create database {MIGRATED} template {main}"))
        yield postgres, valkey
    finally:
        valkey.stop()
        postgres.stop()


@pytest.fixture(scope="session", autouse=True)
def _parse_each_tokenizer_once() -> Iterator[None]:
    """Let the applications that this process builds share a tokenizer: to parse it takes 0.2 s."""
    read, known = prompt_tokenizer._read_tokenizer, dict[str, Tokenizer]()

    def read_once(files: ModelFiles) -> Tokenizer:
        text = files.read_text("tokenizer.json") or ""
        if text not in known:
            known[text] = read(files)
        return known[text]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompt_tokenizer, "_read_tokenizer", read_once)
        patch.setattr(prompt_tokenizer, "longest_token", cache(prompt_tokenizer.longest_token))
        yield


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """The small model's directory."""
    return small_model_dir()


@pytest.fixture(scope="session")
def tokenizer(model_dir: Path) -> PromptTokenizer:
    return PromptTokenizer.load(str(model_dir))


@pytest.fixture(scope="session")
def token_bytes(tokenizer: PromptTokenizer) -> TokenBytes:
    return TokenBytes(tokenizer.tokenizer)


@pytest.fixture(scope="session")
def _settings(servers: tuple[Postgres, Valkey], model_dir: Path) -> Settings:
    postgres, valkey = servers
    return Settings.from_environment(
        {
            "DATABASE_URL": postgres.url,
            "REDIS_URL": valkey.url,
            "MODEL_PATH": str(model_dir),
            "MODEL_NAME": SMALL_MODEL,
            "ENGINE": "echo",
            "SECRET_KEY": SECRET,
            "DRAIN_SECONDS": "5",
            # Every test comes from one address.
            "LOGIN_ATTEMPTS_PER_ADDRESS": "100000",
            "REGISTRATION_ATTEMPTS_PER_ADDRESS": "100000",
            # And many of them act as one admin, or wait in great numbers.
            "WRITE_RATE_LIMIT": "1000000",
            "MAX_WAITS_PER_USER": "1000000",
            # The tests of a run share the machine: a process that gets no processor is no crowd.
            "MAX_ADMISSION_SECONDS": "60",
        }
    )


@pytest.fixture(scope="module")
def base_settings(_settings: Settings, _database: Engine, _redis: redis.Redis) -> Settings:
    """Settings for the run's servers and the echo engine; a module finds the servers empty."""
    empty_tables(_database)
    _redis.flushall()
    return _settings


@pytest.fixture(scope="session")
def _database(_settings: Settings) -> Iterator[Engine]:
    engine = open_database(_settings)
    yield engine
    engine.dispose()


@pytest.fixture
def database(_database: Engine) -> SessionFactory:
    """Sessions on an empty database."""
    empty_tables(_database)
    return sessions(_database)


@pytest.fixture
def session(database: SessionFactory) -> Iterator[Session]:
    with database() as session:
        yield session


@pytest.fixture(scope="session")
def _redis(_settings: Settings) -> Iterator[redis.Redis]:
    client = open_redis(_settings)
    yield client
    client.close()


@pytest.fixture
def redis_client(_redis: redis.Redis) -> redis.Redis:
    """A client of an empty Valkey."""
    _redis.flushall()
    return _redis


@pytest.fixture
def admin(database: SessionFactory) -> User:
    with database.begin() as session:
        return add_admin(session, email=ADMIN_EMAIL, password=ADMIN_PASSWORD)


@pytest.fixture
def empty_database_url(servers: tuple[Postgres, Valkey]) -> Iterator[str]:
    """A database of this test's own, without a schema."""
    with _own_database(servers[0].url, "scratch", template="template0") as url:
        yield url


@pytest.fixture
def migrated_database_url(servers: tuple[Postgres, Valkey]) -> Iterator[str]:
    """A database of this test's own, with our schema and no rows."""
    with _own_database(servers[0].url, "scratch", template=MIGRATED) as url:
        yield url


@pytest.fixture(scope="session")
def _service(
    servers: tuple[Postgres, Valkey],
    _settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    with _running(servers[0], _settings, tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="module")
def service(_service: Service) -> Service:
    """A running API process and worker process with the echo engine, seeded with an admin and as
    good as new.
    """
    _service.start_over()
    return _service


@pytest.fixture(scope="session")
def _slow_service(
    servers: tuple[Postgres, Valkey],
    _settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    pace = {"echo_tokens_per_second": PACE}
    with _running(
        servers[0], _settings, tmp_path_factory.mktemp("slow_service"), **pace
    ) as running:
        yield running


@pytest.fixture(scope="module")
def slow_service(_slow_service: Service) -> Service:
    """The same with answers that take their time: `PACE` tokens a second each."""
    _slow_service.start_over()
    return _slow_service


@pytest.fixture(scope="session")
def _service_without_workers(
    servers: tuple[Postgres, Valkey],
    _settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("service_without_workers")
    with _running(servers[0], _settings, directory, workers=0) as running:
        yield running


@pytest.fixture(scope="module")
def service_without_workers(_service_without_workers: Service) -> Service:
    """A running API without workers: no job begins, and no chore changes the rows."""
    _service_without_workers.start_over()
    return _service_without_workers


@contextmanager
def _running(
    postgres: Postgres, shared: Settings, directory: Path, **changes: Any
) -> Iterator[Service]:
    """Run a service with its own database and Valkey: its worker must not take the jobs that
    other tests make, nor receive their events.
    """
    valkey = Valkey(directory / "valkey", log_dir=directory)
    try:
        valkey.start()
        with _own_database(postgres.url, directory.name, template=MIGRATED) as url:
            own = {"DATABASE_URL": url, "REDIS_URL": valkey.url}
            settings = Settings.from_environment({**shared.to_environment(), **own})
            with Service.started(settings, directory, **changes) as running:
                yield running
    finally:
        valkey.stop()


@contextmanager
def _own_database(url: str, name: str, *, template: str) -> Iterator[str]:
    """Copy a database on the server of `url`, and drop the copy again."""
    with _maintenance(url) as connection:
        connection.execute(text(f"drop database if exists {name} with (force)"))
        connection.execute(text(f"create database {name} template {template}"))
    yield url.rsplit("/", 1)[0] + f"/{name}"
    with _maintenance(url) as connection:
        connection.execute(text(f"drop database {name} with (force)"))


@contextmanager
def _maintenance(url: str) -> Iterator[Connection]:
    """Connect to the server's own database, to create and drop others."""
    engine = create_engine(url.rsplit("/", 1)[0] + "/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()
