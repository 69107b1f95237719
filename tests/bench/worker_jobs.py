"""Measures what a job costs a worker without a model. `python -m tests.bench.worker_jobs`

Real PostgreSQL, Valkey and worker process with the echo engine, and no HTTP. Jobs are committed
first and then sent, with `--in-flight` of them under way. The processor time is that of all threads
of the worker process, which logs as in production. The run also measures the memory before the
first job, and the time from SIGTERM to the worker's end.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import redis

from core.config.settings import Settings
from core.events.job_events import CHANNEL
from core.queueing.broker import JobQueue
from core.queueing.names import QueueName
from core.queueing.workers import WorkerRegistry
from core.redis.client import open_redis
from models.accounts.api_key import ApiKey, create_key
from models.database.base import SessionFactory, open_database, sessions
from models.jobs.job import Job
from models.seed import seed_admin
from tests.bench.servers import MODEL, own_servers
from tests.support.polling import wait_until
from tests.support.service import Service

REQUEST = {"prompt": "Write a Python function that reverses a list", "maxTokens": 32}
#: Jobs of one round: few enough that the reaper takes none for lost before it is sent.
ROUND = {1: 200, 64: 800}
ROUND_SECONDS = 60.0


@dataclass
class Cost:
    """The cost of some jobs."""

    jobs: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--model", type=Path, default=MODEL, help="a directory with a tokenizer")
    args = parser.parse_args()
    with own_servers(args.model, ENGINE="echo") as (settings, directory):
        _measure(settings, directory, args.in_flight, args.rounds)


def _measure(settings: Settings, directory: Path, in_flights: list[int], rounds: int) -> None:
    database, client = sessions(open_database(settings)), open_redis(settings)
    with database.begin() as session:
        owner = seed_admin(session, email="admin@bountycoder.com", password="admin123")
        key, _ = create_key(session, user_id=owner.id, name="bench", rate_limit=1)
    service = Service(settings, directory)
    worker = service.add_worker()
    try:
        wait_until(lambda: WorkerRegistry(client).ready(), 60, service.logs)
        print(f"memory of an idle worker: {_resident_mib(worker.pid):.0f} MiB")
        print(f"{'in flight':>10}{'jobs/s':>10}{'CPU ms/job':>12}")
        for in_flight in in_flights:
            _run_round(database, client, key, worker.pid, in_flight)  # opens connections
            cost = Cost()
            for _ in range(rounds):
                one = _run_round(database, client, key, worker.pid, in_flight)
                cost.jobs += one.jobs
                cost.seconds += one.seconds
                cost.cpu_seconds += one.cpu_seconds
            cpu_ms = 1000 * cost.cpu_seconds / cost.jobs
            print(f"{in_flight:10}{cost.jobs / cost.seconds:10.0f}{cpu_ms:12.2f}")
        print(f"from SIGTERM to the end of the idle worker: {_stop(worker):.2f} s")
    finally:
        service.stop()


def _run_round(
    database: SessionFactory, client: redis.Redis, key: ApiKey, pid: int, in_flight: int
) -> Cost:
    """Run jobs, `in_flight` at a time, until all have ended."""
    waiting = _add_jobs(database, key, ROUND.get(in_flight, 10 * in_flight))
    under_way: set[str] = set()
    cost = Cost(jobs=len(waiting))
    queue = JobQueue(client)
    with client.pubsub(ignore_subscribe_messages=True) as events:
        events.subscribe(CHANNEL)
        events.get_message(timeout=1)
        began, cpu_before = time.perf_counter(), _cpu_seconds(pid)
        while waiting or under_way:
            while waiting and len(under_way) < in_flight:
                job_id = waiting.pop()
                under_way.add(job_id.hex)
                queue.send(job_id, QueueName.INTERACTIVE)
            if time.perf_counter() - began > ROUND_SECONDS:
                raise AssertionError(f"{len(under_way)} jobs did not end")
            # The reply to a health check is `None` too.
            if (message := events.get_message(timeout=1)) is not None:
                under_way.difference_update(json.loads(message["data"]).get("ended", ()))
        cost.seconds = time.perf_counter() - began
        cost.cpu_seconds = _cpu_seconds(pid) - cpu_before
    return cost


def _add_jobs(database: SessionFactory, key: ApiKey, count: int) -> list[UUID]:
    with database.begin() as session:
        jobs = [
            Job(
                user_id=key.user_id,
                api_key_id=key.id,
                queue=QueueName.INTERACTIVE,
                model="echo",
                request=REQUEST,
            )
            for _ in range(count)
        ]
        session.add_all(jobs)
    return [job.id for job in jobs]


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def _stop(worker: subprocess.Popen[bytes]) -> float:
    began = time.perf_counter()
    worker.send_signal(signal.SIGTERM)
    worker.wait(30)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
