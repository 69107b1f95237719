"""A database that takes connections and answers nothing: callers are told, within a bound."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import redis

from cli.embedded.postgres import Postgres
from core.settings import Settings
from migrations.run import upgrade
from tests.api.test_auth import error_of
from tests.service import Service


def test_requests_are_answered_when_the_database_freezes(
    base_settings: Settings, tmp_path: Path, client: redis.Redis
) -> None:
    (tmp_path / "logs").mkdir()
    postgres = Postgres(tmp_path / "postgres", log_dir=tmp_path / "logs", is_durable=False)
    postgres.start()
    try:
        upgrade(postgres.url)
        settings = Settings.from_environment(
            {**base_settings.to_environment(), "DATABASE_URL": postgres.url}
        )
        with Service.started(
            settings, tmp_path / "logs", workers=0, database_timeout_seconds=1
        ) as service:
            headers = {"x-api-key": service.make_key()["secret"]}
            pid = int((tmp_path / "postgres" / "postmaster.pid").read_text().split()[0])
            processes = [pid, *_children(pid)]
            try:
                for one in processes:
                    os.kill(one, signal.SIGSTOP)
                began = time.monotonic()
                answer = service.call(
                    "POST", "/api/llm/jobs", json={"prompt": "x"}, headers=headers
                )
                seconds = time.monotonic() - began
            finally:
                for one in processes:
                    os.kill(one, signal.SIGCONT)
            assert (answer.status_code, error_of(answer)) == (503, "database_unavailable")
            assert seconds < 10
            after = service.call("POST", "/api/llm/jobs", json={"prompt": "x"}, headers=headers)
            assert after.status_code == 202
    finally:
        postgres.stop()


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]
