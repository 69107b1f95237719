"""A few fixed runs of `python -m tests.system.faults`, and a fault that its series found."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests
from sqlalchemy import text

from tests.support.polling import wait_until
from tests.system.faults.installation.breakable import BreakableInstallation
from tests.system.faults.installation.engine import StepFault
from tests.system.faults.kinds.catalogue import FAULTS
from tests.system.faults.recovery import of_postgres, of_redis
from tests.system.faults.run import Runs

#: A hung worker drains for two seconds and ends within eleven on an idle machine.
GONE_SECONDS = 30.0


@pytest.fixture(scope="module")
def installation(model_dir: Path) -> Iterator[BreakableInstallation]:
    with BreakableInstallation.started() as running:
        yield running


@pytest.fixture(scope="module")
def runs(installation: BreakableInstallation) -> Runs:
    return Runs(installation)


@pytest.mark.parametrize(
    ("seed", "names"),
    [
        (11, ["API process killed", "PostgreSQL ends all connections", "Redis emptied"]),
        (12, ["Redis killed", "one clock steps", "engine step raises"]),
    ],
)
def test_no_invariant_breaks(
    installation: BreakableInstallation, runs: Runs, seed: int, names: list[str]
) -> None:
    faults = [fault for fault in FAULTS if fault.name in names]

    outcome = runs.run(seed, faults)

    assert outcome.broken == [], f"{outcome}\n{installation.explain()}"
    assert outcome.accepted > 0


@pytest.mark.alone  # it measures how long recovery takes
def test_the_service_is_whole_soon_after_its_servers_return(
    installation: BreakableInstallation,
) -> None:
    recoveries = [of_redis(installation), of_postgres(installation)]

    assert [one for one in recoveries if one.seconds > one.bound] == []


def test_a_worker_whose_step_hangs_ends_after_sigterm(installation: BreakableInstallation) -> None:
    headers = {"x-api-key": installation.make_key()["secret"]}
    body = {"prompt": "word " * 100, "maxTokens": 90}
    for _ in range(4):
        response = requests.post(
            f"{installation.url}/api/llm/jobs", json=body, headers=headers, timeout=10
        )
        assert response.status_code == 202
    with installation.sessions() as session:
        query = "select worker_id from jobs where state = 'running' limit 1"
        wait_until(lambda: session.scalar(text(query)) is not None, 10, installation.explain)
        pid = int(session.scalars(text(query)).one().rsplit("-", 2)[1])
    order = installation.order(pid, StepFault.HANG)
    wait_until(lambda: not order.exists(), 10, installation.explain)

    os.kill(pid, signal.SIGTERM)

    wait_until(lambda: has_ended(pid), GONE_SECONDS, installation.explain)


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
