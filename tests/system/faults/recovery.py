"""How long recovery takes: of a dead worker's jobs, of the service after its servers return, and
of the neighbours of a request that kills its workers. `python -m tests.system.faults --recovery`
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
from tests.system.faults.engine import Poison
from tests.system.faults.instance import Instance
from tests.system.faults.traffic import BATCHES, GENERATE, JOBS

#: What is promised.
WORKER_SECONDS, SERVER_SECONDS = 15.0, 5.0
#: How long a server is away.
AWAY_SECONDS = 3.0
CALL_SECONDS = 10.0
END_SECONDS = 120.0
NEIGHBOURS = 11
#: Runs for so many seconds at the pace of the faults' engine.
LONG_PROMPT, LONG_TOKENS = "word " * 300, 250


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was measured, and what was promised."""

    of: str
    seconds: float
    bound: float

    def __str__(self) -> str:
        return f"{self.of}: {self.seconds:.1f} s (at most {self.bound:.0f} s)"


def of_a_dead_workers_jobs(instance: Instance) -> Recovery:
    """Kill a worker; measure until all its jobs run elsewhere."""
    headers = _key(instance)
    body = {"prompt": LONG_PROMPT, "maxTokens": LONG_TOKENS}
    for _ in range(8):
        _post(instance, JOBS, headers, json=body)
    victim = 0

    def is_busy() -> bool:
        nonlocal victim
        counts = _held_by(instance)
        victim = max(counts, key=counts.__getitem__, default=0)
        return sum(counts.values()) == 8

    wait_until(is_busy, END_SECONDS, instance.explain)
    began = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: _run_elsewhere(instance, victim), END_SECONDS, instance.explain)
    recovery = Recovery("a dead worker's jobs run elsewhere", _since(began), WORKER_SECONDS)
    instance.mend()
    return recovery


def of_redis(instance: Instance) -> Recovery:
    return _of_server(instance, "Redis", instance.valkey.stop)


def of_postgres(instance: Instance) -> Recovery:
    return _of_server(instance, "PostgreSQL", instance.postgres.stop)


def _of_server(instance: Instance, name: str, stop: Callable[[], None]) -> Recovery:
    """Stop a server for a while; measure from its return until every kind of call is served."""
    headers = _key(instance)
    assert _serves(instance, headers)
    stop()
    time.sleep(AWAY_SECONDS)  # the fault itself
    instance.start_servers()
    began = time.monotonic()
    wait_until(lambda: _serves(instance, headers), END_SECONDS, instance.explain)
    return Recovery(f"full service after {name} returns", _since(began), SERVER_SECONDS)


def of_a_poisoned_batch(instance: Instance) -> Recovery:
    """Send a batch with one line that kills its worker; measure until the batch has ended.

    That line fails after all attempts, and no other does.
    """
    headers = _key(instance)
    lines = [
        {"custom_id": f"c{place}", "prompt": f"{place} is a number", "maxTokens": 20}
        for place in range(NEIGHBOURS + 1)
    ]
    poisoned = lines[NEIGHBOURS // 2]
    poisoned["seed"] = int(Poison.KILL)
    file = "".join(json.dumps(line) + "\n" for line in lines)
    kind = {"Content-Type": "application/jsonl"}
    batch = _post(instance, BATCHES, {**headers, **kind}, data=file).json()
    began = time.monotonic()
    place = f"{instance.url}{BATCHES}/{batch['id']}"

    def has_ended() -> bool:
        answer = requests.get(place, headers=headers, timeout=CALL_SECONDS)
        return bool(answer.json()["status"] == "completed")

    wait_until(has_ended, END_SECONDS, instance.explain)
    seconds = _since(began)
    results = requests.get(f"{place}/results", headers=headers, timeout=CALL_SECONDS).text
    states = {one["custom_id"]: one for one in map(json.loads, results.splitlines())}
    failed = {name: one for name, one in states.items() if one["status"] != "succeeded"}
    assert set(failed) == {poisoned["custom_id"]}, failed
    assert failed[poisoned["custom_id"]]["error"]["code"] == "worker_lost"
    instance.mend()
    return Recovery("a batch with a line that kills its workers ends", seconds, END_SECONDS)


def _serves(instance: Instance, headers: dict[str, str]) -> bool:
    """Say whether a synchronous call, a stream, a job and a batch are all taken and done."""
    body = {"prompt": "one two three", "maxTokens": 2}
    try:
        if requests.get(f"{instance.url}/readyz", timeout=CALL_SECONDS).status_code != 200:
            return False
        whole = _post(instance, GENERATE, headers, json=body)
        stream = _post(instance, GENERATE, headers, json={**body, "stream": True})
        job = _post(instance, JOBS, headers, json=body)
        kind = {"Content-Type": "application/jsonl"}
        batch = _post(instance, BATCHES, {**headers, **kind}, data=json.dumps(body) + "\n")
        place = f"{instance.url}{JOBS}/{job.json()['id']}?wait=2"
        ended = requests.get(place, headers=headers, timeout=CALL_SECONDS).json()
    except requests.RequestException:
        return False
    return (
        whole.status_code == 200
        and "[DONE]" in stream.text
        and ended["status"] == "succeeded"
        and batch.status_code == 201
    )


def _post(
    instance: Instance, path: str, headers: dict[str, str], **body: object
) -> requests.Response:
    answer = requests.request(
        "POST",
        instance.url + path,
        headers=headers,
        timeout=CALL_SECONDS,
        **body,  # type: ignore[arg-type]  # `json` or `data`
    )
    answer.raise_for_status()
    return answer


def _key(instance: Instance) -> dict[str, str]:
    return {"x-api-key": instance.make_key()["secret"]}


def _held_by(instance: Instance) -> dict[int, int]:
    """Return how many jobs each worker process runs."""
    query = "select worker_id, count(*) from jobs where state = 'running' group by 1"
    with instance.sessions() as session:
        found = session.execute(text(query))
        return {int(worker.rsplit("-", 2)[1]): count for worker, count in found}


def _run_elsewhere(instance: Instance, victim: int) -> bool:
    query = "select count(*) from jobs where state = 'queued' and not is_held"
    with instance.sessions() as session:
        waiting = session.scalar(text(query))
    return not waiting and victim not in _held_by(instance)


def _since(began: float) -> float:
    return time.monotonic() - began
