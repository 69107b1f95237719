"""Measures how soon an idle worker begins a committed job. `python -m tests.bench.pickup`

Real PostgreSQL, Valkey and worker process with the echo engine; one job at a time, sent as the API
sends it. The worker's `started_at` and our clock belong to one machine. The same run measures one
empty transaction: the least cost of any design that writes a row.
"""

from __future__ import annotations

import argparse
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import text

from core.config.settings import Settings
from core.queueing.broker import JobQueue
from core.queueing.names import QueueName
from core.redis.client import open_redis
from models.accounts.api_key import create_key
from models.database.base import SessionFactory, open_database, sessions
from models.jobs.job import Job
from models.seed import seed_admin
from tests.bench.servers import MODEL, own_servers
from tests.support.polling import wait_until
from tests.support.service import Service

PAUSE_SECONDS = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--model", type=Path, default=MODEL, help="a directory with a tokenizer")
    args = parser.parse_args()
    with own_servers(args.model, ENGINE="echo") as (settings, directory):
        _report(*_measure(settings, directory, args.jobs))


def _measure(settings: Settings, directory: Path, jobs: int) -> tuple[list[float], list[float]]:
    """Return the pick-up times and the transaction times, in milliseconds."""
    database = sessions(open_database(settings))
    queue = JobQueue(open_redis(settings))
    picked_up, transactions = [], []
    with Service.started(settings, directory):
        for _ in range(jobs):
            picked_up.append(_one_job(database, queue))
            began = time.perf_counter()
            with database.begin() as session:
                session.execute(text("select 1"))
            transactions.append((time.perf_counter() - began) * 1000)
            time.sleep(PAUSE_SECONDS)
    return picked_up, transactions


def _one_job(database: SessionFactory, queue: JobQueue) -> float:
    with database.begin() as session:
        owner = seed_admin(session, email="admin@bountycoder.com", password="admin123")
        key, _ = create_key(session, user_id=owner.id, name="bench", rate_limit=1)
        job = Job(
            user_id=owner.id,
            api_key_id=key.id,
            queue=QueueName.INTERACTIVE,
            model="echo",
            request={"prompt": "x"},
        )
        session.add(job)
    committed = datetime.now(UTC)
    queue.send(job.id, QueueName.INTERACTIVE)
    started: list[datetime] = []

    def has_started() -> bool:
        with database() as session:
            started[:] = [at for at in [session.get_one(Job, job.id).started_at] if at]
        return bool(started)

    wait_until(has_started, 10)
    return (started[0] - committed).total_seconds() * 1000


def _report(picked_up: list[float], transactions: list[float]) -> None:
    print(f"{'':34}{'median':>10}{'p90':>10}{'p99':>10}")
    for name, values in (
        ("from commit to begin, ms", picked_up),
        ("an empty transaction, ms", transactions),
    ):
        cuts = statistics.quantiles(values, n=100)
        print(f"{name:34}{cuts[49]:10.2f}{cuts[89]:10.2f}{cuts[98]:10.2f}")
    ratio = statistics.median(picked_up) / statistics.median(transactions)
    print(f"begin over empty transaction, medians: {ratio:.1f}")


if __name__ == "__main__":
    main()
