"""Replicas and recovery to a moment, as docs/data.md describes them, with real servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests

from cli.servers.valkey import Valkey
from core.config.settings import Settings
from migrations.run import upgrade
from tests.support.polling import wait_until
from tests.support.postgres import REPLICA, base_backup, query, running, url_of_writable
from tests.support.service import Service

BODY = {"prompt": "one two three", "maxTokens": 4}


def served(service: Service, method: str, path: str, **options: Any) -> Any:
    """Retry until the service responds with success; new connections find the new primary."""
    responses: list[requests.Response] = []

    def is_served() -> bool:
        responses.append(service.call(method, path, **options))
        assert responses[-1].status_code in {200, 503}, responses[-1].text
        return responses[-1].status_code == 200

    wait_until(is_served, 60, service.logs)
    return responses[-1].json()


def test_a_service_continues_with_the_promoted_replica_when_its_primary_dies(
    base_settings: Settings, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    valkey = Valkey(tmp_path / "valkey", log_dir=tmp_path)
    request.addfinalizer(valkey.stop)
    valkey.start()
    with running(tmp_path, "primary") as primary:
        primary.create_database()
        upgrade(primary.url)
        base_backup(primary, tmp_path / "replica", *REPLICA)
        with running(tmp_path, "replica") as replica:
            both = url_of_writable(primary, replica)
            own = {"DATABASE_URL": both, "REDIS_URL": valkey.url}
            settings = Settings.from_environment({**base_settings.to_environment(), **own})
            with Service.started(settings, tmp_path) as service:
                headers = {"x-api-key": service.make_key()["secret"]}
                first = service.call("POST", "/api/llm/generate", json=BODY, headers=headers)
                assert first.status_code == 200, first.text
                rows = "select count(*) from jobs where state = 'succeeded'"
                wait_until(lambda: query(replica, rows) == 1, 30)
                assert query(replica, "select pg_is_in_recovery()")

                assert primary.child is not None
                primary.child.kill()
                away = service.call("POST", "/api/llm/generate", json=BODY, headers=headers)
                assert query(replica, "select pg_promote(true, 60)")
                second = served(service, "POST", "/api/llm/generate", json=BODY, headers=headers)
                listed = served(service, "GET", "/api/llm/jobs", headers=headers)["data"]

            assert away.status_code == 503
            assert [job["id"] for job in listed] == [second["id"], first.json()["id"]]
            assert query(replica, rows) == 2


def test_a_database_is_restored_to_the_moment_before_a_mistake(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    archiving = {
        "archive_mode": "on",
        "archive_command": f'test ! -f "{archive}/%f" && cp "%p" "{archive}/%f"',
    }
    with running(tmp_path, "primary", **archiving) as primary:
        primary.create_database()
        query(primary, "create table numbers (id integer)")
        base_backup(primary, tmp_path / "recovered", "--wal-method=fetch")
        query(primary, "insert into numbers select generate_series(1, 1000)")
        moment = query(primary, "select now()::text")
        query(primary, "delete from numbers")
        segment = query(primary, "select pg_walfile_name(pg_switch_wal())")
        wait_until(lambda: (archive / segment).exists(), 60)

    (tmp_path / "recovered" / "recovery.signal").touch()
    recovery = {
        "restore_command": f'cp "{archive}/%f" "%p"',
        "recovery_target_time": moment,
        "recovery_target_action": "promote",
    }
    with running(tmp_path, "recovered", **recovery) as recovered:
        wait_until(lambda: not query(recovered, "select pg_is_in_recovery()"), 60)
        assert query(recovered, "select count(*) from numbers") == 1000
        query(recovered, "insert into numbers values (0)")
