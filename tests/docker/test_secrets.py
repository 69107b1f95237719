"""The passwords that docker/secrets.sh creates, and the servers that use them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import URL, NullPool, create_engine, make_url, text
from sqlalchemy.exc import ProgrammingError

from cli.servers.postgres import Postgres
from cli.servers.valkey import Valkey, wheel_binary
from cli.system.ports import free_port
from core.config.settings import Settings
from migrations.run import upgrade
from tests.support.docker.tools import DOCKER
from tests.support.polling import wait_until

READERS = {"app": 0o400, "postgres": 0o400, "redis": 0o400, "grafana": 0o400, "exporters": 0o444}


def make(root: Path, app_env: str = "development") -> dict[str, str]:
    """Run the script, and return what each file holds."""
    subprocess.run(
        ["sh", DOCKER / "secrets.sh"],
        env={"PATH": "/usr/bin:/bin", "SECRETS_ROOT": str(root), "APP_ENV": app_env},
        check=True,
        timeout=30,
    )
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_text().rstrip("\n") for path in files}


def settings_of(root: Path, app_env: str) -> Settings:
    """Read the settings that name the files of the app."""
    names = ("SECRET_KEY", "ADMIN_PASSWORD", "DATABASE_URL", "REDIS_URL")
    files = {f"{name}_FILE": str(root / "app" / name.lower()) for name in names}
    return Settings.from_environment({"APP_ENV": app_env, **files})


def test_development_has_the_passwords_of_the_documentation(tmp_path: Path) -> None:
    made = make(tmp_path)

    assert made["app/admin_password"] == "admin123"
    assert made["grafana/grafana_admin_password"] == "admin"
    assert settings_of(tmp_path, "development").admin_password.get_secret_value() == "admin123"


def test_production_accepts_the_created_secrets(tmp_path: Path) -> None:
    made = make(tmp_path, "production")

    assert settings_of(tmp_path, "production").is_production
    assert len(made["grafana/grafana_admin_password"]) == 64
    random = {name for name, value in made.items() if len(value) == 64}
    assert len({made[name] for name in random}) == len(random) - 2  # two secrets have two readers


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    assert make(tmp_path) == make(tmp_path)


def test_production_replaces_only_the_well_known_passwords(
    tmp_path: Path,
) -> None:
    before, after = make(tmp_path), make(tmp_path, "production")

    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"app/admin_password", "grafana/grafana_admin_password"}


def test_a_lost_file_is_rebuilt_from_the_others(tmp_path: Path) -> None:
    before = make(tmp_path)
    (tmp_path / "app" / "database_url").unlink()

    assert make(tmp_path) == before


def test_only_its_reader_can_read_a_secret(tmp_path: Path) -> None:
    make(tmp_path)

    for directory, mode in READERS.items():
        for path in (tmp_path / directory).iterdir():
            assert path.stat().st_mode & 0o777 == mode, path
    if os.geteuid() == 0:
        assert {path.stat().st_uid for path in (tmp_path / "app").iterdir()} == {10001}


def test_valkey_requires_its_password(tmp_path: Path) -> None:
    made = make(tmp_path)
    port = free_port()
    # /data exists only in the container.
    config = tmp_path / "valkey.conf"
    config.write_text(made["redis/valkey.conf"].replace("dir /data", f"dir {tmp_path}"))
    url = made["app/redis_url"].replace("@redis:6379", f"@127.0.0.1:{port}")
    command = [str(wheel_binary()), str(config), "--port", str(port), "--bind", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            client = redis.Redis.from_url(url)
            wait_until(lambda: is_up(client), 20)
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            with pytest.raises(redis.AuthenticationError):
                redis.Redis(port=port).ping()
            client.close()
        finally:
            server.terminate()
    passwords = json.loads(made["exporters/redis_passwords.json"])
    assert passwords == {"redis://redis:6379": made["redis/password"]}


def test_the_service_owns_its_database_and_is_no_superuser(
    tmp_path: Path, servers: tuple[Postgres, Valkey]
) -> None:
    postgres, _ = servers
    made = make(tmp_path)
    superuser = make_url(postgres.url)
    environment = {
        "PATH": f"{postgres.cluster.bin_dir}:/usr/bin:/bin",
        "SECRETS": str(tmp_path / "postgres"),
        "POSTGRES_USER": str(superuser.username),
        "PGHOST": "127.0.0.1",
        "PGPORT": str(postgres.port),
        "PGPASSWORD": str(superuser.password),
    }
    app_url = make_url(made["app/database_url"]).set(host="127.0.0.1", port=postgres.port)
    exporter = app_url.set(username="exporter", password=made["exporters/postgres_password"])
    try:
        subprocess.run(
            ["sh", DOCKER / "postgres" / "roles.sh"], env=environment, check=True, timeout=30
        )
        address = app_url.set(drivername="postgresql+psycopg2").render_as_string(
            hide_password=False
        )
        upgrade(address)

        assert value(app_url, "select rolsuper from pg_roles where rolname = current_user") is False
        assert value(app_url, "select rolcreaterole from pg_roles where rolname = current_user")
        assert value(exporter, "select count(*) > 0 from pg_stat_activity")
        with pytest.raises(ProgrammingError, match="permission denied"):
            value(exporter, "select count(*) from users")
    finally:
        for statement in ("database bountycoder", "role bountycoder", "role exporter"):
            value(superuser, f"drop {statement}")


def value(address: URL, statement: str) -> Any:
    """Return the value of a statement, run as the URL's user."""
    engine = create_engine(
        address.set(drivername="postgresql+psycopg2"),
        isolation_level="AUTOCOMMIT",
        poolclass=NullPool,
    )
    with engine.connect() as connection:
        result = connection.execute(text(statement))
        return result.scalar_one() if result.returns_rows else None


def is_up(client: redis.Redis) -> bool:
    """Return whether a server responds."""
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
