"""Generated requests to every call: no server error and no undocumented response."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
import redis

from core.config.settings import Settings
from tests.support.contract import contract
from tests.support.processes import run
from tests.support.service import Service

CONFIG = Path(__file__).parent / "schemathesis.toml"
HOOKS = Path(__file__).parent / "hooks.py"
#: About a minute on two slow cores.
RUN_SECONDS = 600.0
#: So high that no request exceeds a limit.
UNLIMITED = {
    "poll_rate_limit": 1_000_000,
    "login_attempts_per_email": 1_000_000,
    "login_attempts_per_address": 1_000_000,
    "registration_attempts_per_email": 1_000_000,
    "registration_attempts_per_address": 1_000_000,
    "max_queue_length": 1_000_000,
}
#: Short bounds of waits without an end.
SHORT = {"sync_wait_seconds": 1.0, "stream_seconds": 5.0, "max_tokens_limit": 64}


@pytest.fixture(scope="module")
def unlimited_service(
    base_settings: Settings, _redis: redis.Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("service")
    with Service.started(base_settings, directory, **UNLIMITED, **SHORT) as running:
        yield running


def test_made_up_requests_find_no_fault(unlimited_service: Service, tmp_path: Path) -> None:
    key = unlimited_service.make_key(rateLimit=1_000_000)
    headers = {**unlimited_service.sign_in_admin(), "x-api-key-id": key["id"]}
    me = unlimited_service.call("GET", "/api/auth/me", headers=headers).json()
    report = tmp_path / "report.xml"

    done = run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
            *("run", f"{unlimited_service.url}/api/openapi.json"),
            *(f"--header={name}: {value}" for name, value in headers.items()),
            f"--report-junit-path={report}",
        ],
        directory=tmp_path,  # it leaves a cache where it runs
        environment={
            **os.environ,
            "SCHEMATHESIS_HOOKS": str(HOOKS),
            "IDS_TO_SPARE": f"{key['id']},{me['id']}",
        },
        seconds=RUN_SECONDS,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    tried = {case.get("name") for case in ElementTree.parse(report).iter("testcase")}
    calls = {
        f"{method.upper()} {path}"
        for path, item in contract().document["paths"].items()
        for method in item
    }
    # The document, which the run begins with, and the call that would end its session.
    assert calls - tried == {"GET /api/openapi.json", "POST /api/auth/logout"}
    after = unlimited_service.call("GET", "/api/limits", headers=headers)
    assert after.status_code == 200, (
        "the run ended its own credentials: later requests proved nothing"
    )
