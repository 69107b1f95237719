"""A few fixed runs of `python -m tests.system.faults`, and what its long series once broke."""

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
from tests.system.faults.engine import StepFault
from tests.system.faults.faults import FAULTS
from tests.system.faults.instance import Instance
from tests.system.faults.recovery import of_postgres, of_redis
from tests.system.faults.run import Runs

#: A hung worker drains for two seconds and leaves within eleven, on a machine with nothing else.
GONE_SECONDS = 30.0


@pytest.fixture(scope="module")
def instance(model_dir: Path) -> Iterator[Instance]:
    with Instance.started() as started:
        yield started


@pytest.fixture(scope="module")
def runs(instance: Instance) -> Runs:
    return Runs(instance)


@pytest.mark.parametrize(
    ("seed", "names"),
    [
        (11, ["API process killed", "PostgreSQL ends all connections", "Redis emptied"]),
        (12, ["Redis killed", "one clock steps", "engine step raises"]),
    ],
)
def test_no_invariant_breaks(runs: Runs, seed: int, names: list[str]) -> None:
    faults = [fault for fault in FAULTS if fault.name in names]

    outcome = runs.run(seed, faults)

    assert outcome.broken == [], str(outcome)
    assert outcome.accepted > 0


@pytest.mark.alone  # it measures how long recovery takes
def test_the_service_is_whole_soon_after_its_servers_return(instance: Instance) -> None:
    recoveries = [of_redis(instance), of_postgres(instance)]

    assert [one for one in recoveries if one.seconds > one.bound] == []


def test_a_worker_whose_step_hangs_ends_when_it_is_told_to_stop(instance: Instance) -> None:
    headers = {"x-api-key": instance.make_key()["secret"]}
    body = {"prompt": "word " * 100, "maxTokens": 90}
    for _ in range(4):
        answer = requests.post(
            f"{instance.url}/api/llm/jobs", json=body, headers=headers, timeout=10
        )
        assert answer.status_code == 202
    with instance.sessions() as session:
        query = "select worker_id from jobs where state = 'running' limit 1"
        wait_until(lambda: session.scalar(text(query)) is not None, 10, instance.explain)
        pid = int(session.scalars(text(query)).one().rsplit("-", 2)[1])
    order = instance.orders / str(pid)
    order.write_text(StepFault.HANG)
    wait_until(lambda: not order.exists(), 10, instance.explain)

    os.kill(pid, signal.SIGTERM)

    wait_until(lambda: has_ended(pid), GONE_SECONDS, instance.explain)


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
