"""Recovery times after common faults. `python -m tests.system.faults --recovery`

They are those of a dead worker's jobs, of the service after its servers return, and of the
neighbours of a request that kills its workers.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import requests
from sqlalchemy import text

from tests.support.polling import wait_until
from tests.system.faults.installation.breakable import BreakableInstallation
from tests.system.faults.installation.engine import Poison
from tests.system.faults.traffic.calls import BATCHES, GENERATE, JOBS

#: The promised bounds.
WORKER_SECONDS, SERVER_SECONDS = 15.0, 5.0
#: The time for which a server is away.
AWAY_SECONDS = 3.0
CALL_SECONDS = 10.0
END_SECONDS = 120.0
NEIGHBOURS = 11
#: A job that runs for ten seconds.
LONG_PROMPT, LONG_TOKENS = "word " * 300, 250


@dataclass(frozen=True, slots=True)
class Recovery:
    """A measured recovery time and its promised bound."""

    of: str
    seconds: float
    bound: float

    def __str__(self) -> str:
        return f"{self.of}: {self.seconds:.1f} s (at most {self.bound:.0f} s)"


def of_a_dead_workers_jobs(installation: BreakableInstallation) -> Recovery:
    """Measure the time from a worker's death until all its jobs run elsewhere."""
    headers = _key(installation)
    body = {"prompt": LONG_PROMPT, "maxTokens": LONG_TOKENS}
    for _ in range(8):
        _post(installation, JOBS, headers, json=body)
    victim = 0

    def is_busy() -> bool:
        nonlocal victim
        counts = _held_by(installation)
        victim = max(counts, key=counts.__getitem__, default=0)
        return sum(counts.values()) == 8

    wait_until(is_busy, END_SECONDS, installation.explain)
    began = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: _run_elsewhere(installation, victim), END_SECONDS, installation.explain)
    recovery = Recovery("a dead worker's jobs run elsewhere", _since(began), WORKER_SECONDS)
    installation.mend()
    return recovery


def of_redis(installation: BreakableInstallation) -> Recovery:
    return _of_server(installation, "Redis", installation.servers.valkey.stop)


def of_postgres(installation: BreakableInstallation) -> Recovery:
    return _of_server(installation, "PostgreSQL", installation.servers.postgres.stop)


def _of_server(
    installation: BreakableInstallation, name: str, stop: Callable[[], None]
) -> Recovery:
    """Measure the time from a server's return until every kind of call is served."""
    headers = _key(installation)
    assert _serves(installation, headers)
    stop()
    time.sleep(AWAY_SECONDS)  # the fault itself
    installation.servers.restart_ended()
    began = time.monotonic()
    wait_until(lambda: _serves(installation, headers), END_SECONDS, installation.explain)
    return Recovery(f"full service after {name} returns", _since(began), SERVER_SECONDS)


def of_a_poisoned_batch(installation: BreakableInstallation) -> Recovery:
    """Measure the time until a batch with a line that kills its worker has ended.

    Only that line fails, after all its attempts.
    """
    headers = _key(installation)
    lines = [
        {"custom_id": f"c{number}", "prompt": f"{number} is a number", "maxTokens": 20}
        for number in range(NEIGHBOURS + 1)
    ]
    poisoned = lines[NEIGHBOURS // 2]
    poisoned["seed"] = int(Poison.KILL)
    file = "".join(json.dumps(line) + "\n" for line in lines)
    kind = {"Content-Type": "application/jsonl"}
    batch = _post(installation, BATCHES, {**headers, **kind}, data=file).json()
    began = time.monotonic()
    url = f"{installation.url}{BATCHES}/{batch['id']}"

    def has_ended() -> bool:
        response = requests.get(url, headers=headers, timeout=CALL_SECONDS)
        return bool(response.json()["status"] == "completed")

    wait_until(has_ended, END_SECONDS, installation.explain)
    seconds = _since(began)
    results = requests.get(f"{url}/results", headers=headers, timeout=CALL_SECONDS).text
    states = {one["custom_id"]: one for one in map(json.loads, results.splitlines())}
    failed = {name: one for name, one in states.items() if one["status"] != "succeeded"}
    assert set(failed) == {poisoned["custom_id"]}, failed
    assert failed[poisoned["custom_id"]]["error"]["code"] == "worker_lost"
    installation.mend()
    return Recovery("a batch with a line that kills its workers ends", seconds, END_SECONDS)


def _serves(installation: BreakableInstallation, headers: dict[str, str]) -> bool:
    """Return whether a synchronous call, a stream, a job and a batch are all served."""
    body = {"prompt": "one two three", "maxTokens": 2}
    try:
        if requests.get(f"{installation.url}/readyz", timeout=CALL_SECONDS).status_code != 200:
            return False
        whole = _post(installation, GENERATE, headers, json=body)
        stream = _post(installation, GENERATE, headers, json={**body, "stream": True})
        job = _post(installation, JOBS, headers, json=body)
        kind = {"Content-Type": "application/jsonl"}
        batch = _post(installation, BATCHES, {**headers, **kind}, data=json.dumps(body) + "\n")
        url = f"{installation.url}{JOBS}/{job.json()['id']}?wait=2"
        ended = requests.get(url, headers=headers, timeout=CALL_SECONDS).json()
    except requests.RequestException:
        return False
    return (
        whole.status_code == 200
        and "[DONE]" in stream.text
        and ended["status"] == "succeeded"
        and batch.status_code == 201
    )


def _post(
    installation: BreakableInstallation, path: str, headers: dict[str, str], **body: object
) -> requests.Response:
    response = requests.request(
        "POST",
        installation.url + path,
        headers=headers,
        timeout=CALL_SECONDS,
        **body,  # type: ignore[arg-type]  # `json` or `data`
    )
    response.raise_for_status()
    return response


def _key(installation: BreakableInstallation) -> dict[str, str]:
    return {"x-api-key": installation.make_key()["secret"]}


def _held_by(installation: BreakableInstallation) -> dict[int, int]:
    """Return the number of running jobs of each worker process."""
    query = "select worker_id, count(*) from jobs where state = 'running' group by 1"
    with installation.sessions() as session:
        found = session.execute(text(query))
        return {int(worker.rsplit("-", 2)[1]): count for worker, count in found}


def _run_elsewhere(installation: BreakableInstallation, victim: int) -> bool:
    query = "select count(*) from jobs where state = 'queued' and not is_held"
    with installation.sessions() as session:
        waiting = session.scalar(text(query))
    return not waiting and victim not in _held_by(installation)


def _since(began: float) -> float:
    return time.monotonic() - began
