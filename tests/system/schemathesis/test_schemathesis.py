"""Made-up requests to every call: no server error, nothing that the document does not say."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
import redis

from core.config.settings import Settings
from tests.support.contract import contract
from tests.support.service import Service

CONFIG = Path(__file__).parent / "schemathesis.toml"
HOOKS = Path(__file__).parent / "hooks.py"
#: About a minute on two slow cores.
RUN_SECONDS = 600.0
#: So high that no request is refused for coming too soon after another.
UNLIMITED = {
    "poll_rate_limit": 1_000_000,
    "login_attempts_per_email": 1_000_000,
    "login_attempts_per_address": 1_000_000,
    "registration_attempts_per_email": 1_000_000,
    "registration_attempts_per_address": 1_000_000,
    "max_queue_length": 1_000_000,
}
#: So short that a wait for nothing does not take long.
SHORT = {"sync_wait_seconds": 1.0, "stream_seconds": 5.0, "max_tokens_limit": 64}


@pytest.fixture(scope="module")
def patient_service(
    base_settings: Settings, _redis: redis.Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("service")
    with Service.started(base_settings, directory, **UNLIMITED, **SHORT) as running:
        yield running


def test_made_up_requests_find_no_fault(patient_service: Service, tmp_path: Path) -> None:
    key = patient_service.make_key(rateLimit=1_000_000)
    headers = {**patient_service.sign_in_admin(), "x-api-key-id": key["id"]}
    me = patient_service.call("GET", "/api/auth/me", headers=headers).json()
    report = tmp_path / "report.xml"

    run = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
            *("run", f"{patient_service.url}/api/openapi.json"),
            *(f"--header={name}: {value}" for name, value in headers.items()),
            f"--report-junit-path={report}",
        ],
        cwd=tmp_path,  # it leaves a cache where it runs
        env={
            **os.environ,
            "SCHEMATHESIS_HOOKS": str(HOOKS),
            "IDS_TO_SPARE": f"{key['id']},{me['id']}",
        },
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    tried = {case.get("name") for case in ElementTree.parse(report).iter("testcase")}
    calls = {
        f"{method.upper()} {path}"
        for path, item in contract().document["paths"].items()
        for method in item
    }
    # What the run itself began with, and what would end its session.
    assert calls - tried == {"GET /api/openapi.json", "POST /api/auth/logout"}
    after = patient_service.call("GET", "/api/limits", headers=headers)
    assert after.status_code == 200, "the run ended its own credentials: what followed was refused"
