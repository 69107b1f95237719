"""Measures how fast a large batch is accepted and run. `python -m tests.bench.batches.bulk`

Real PostgreSQL, Valkey, API and worker processes with the echo engine, durable as in production.
At the end every line must have ended once and be in the results once, in the order of the file, and
every sum must be right.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import psutil
from sqlalchemy import func, select, text

from core.config.settings import Settings
from core.queueing.broker import JobQueue
from core.queueing.names import QueueName
from core.redis.client import open_redis
from models.batches.batch import Batch
from models.database.base import SessionFactory, open_database, sessions
from models.jobs.job import Job
from models.maintenance.consistency import begin_check, compare_batches, compare_jobs
from models.maintenance.rollup_consistency import compare_roll_ups
from models.usage.usage import Usage
from tests.bench.batches.uploads import lines_of, send_file
from tests.bench.servers import MODEL, own_servers
from tests.support.http.batch_files import batch_uuid, results
from tests.support.polling import wait_until
from tests.support.service import Service

MOST_SECONDS = 1200.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=50_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--model", type=Path, default=MODEL, help="a directory with a tokenizer")
    args = parser.parse_args()
    with own_servers(args.model, ENGINE="echo") as (settings, directory):
        _measure(settings, directory, lines=args.lines, workers=args.workers)


def _measure(settings: Settings, directory: Path, *, lines: int, workers: int) -> None:
    engine = open_database(settings)
    database, client = sessions(engine), open_redis(settings)
    with Service.started(settings, directory, workers=workers) as service:
        headers = {"x-api-key": service.make_key()["secret"]}
        with _watching(service, JobQueue(client)) as seen:
            began = time.perf_counter()
            batch = send_file(service, headers, b"".join(lines_of(lines, words=20)))
            accepted = time.perf_counter() - began
            batch_id = batch_uuid(batch)
            began = time.perf_counter()
            wait_until(lambda: _first_line_began(database, batch_id), MOST_SECONDS)
            first = time.perf_counter() - began
            wait_until(lambda: _has_ended(database, batch_id), MOST_SECONDS, service.logs)
            seconds = time.perf_counter() - began
        began = time.perf_counter()
        found = results(service, headers, batch)
        print(f"{lines} lines accepted in {accepted:.1f} s")
        print(f"results read in {time.perf_counter() - began:.1f} s")
        assert [result["custom_id"] for result in found] == [f"c{i}" for i in range(lines)]
    print(f"first line begun after {first:.2f} s")
    print(f"{lines / seconds:.0f} lines/s, {seconds:.1f} s in all")
    print("processor seconds: " + ", ".join(f"{n} {s:.1f}" for n, s in seen.cpu.items()))
    print(f"queue empty in {seen.empty} of {seen.samples} samples, {seen.most} lines at most")
    _check(database, batch_id, lines)
    engine.dispose()


class _Seen:
    """The samples of a run."""

    def __init__(self) -> None:
        self.samples = self.empty = self.most = 0
        self.cpu: dict[str, float] = {}


@contextmanager
def _watching(service: Service, queue: JobQueue) -> Iterator[_Seen]:
    """Sample the queue while the block runs, and measure the processor time of the block."""
    seen, must_stop = _Seen(), threading.Event()

    def sample() -> None:
        while not must_stop.wait(0.05):
            length = queue.length(QueueName.BULK)
            seen.samples += 1
            seen.empty += length == 0
            seen.most = max(seen.most, length)

    before = _cpu_seconds(service)
    watcher = threading.Thread(target=sample)
    watcher.start()
    try:
        yield seen
    finally:
        must_stop.set()
        watcher.join()
        seen.cpu = {name: s - before.get(name, 0.0) for name, s in _cpu_seconds(service).items()}


def _cpu_seconds(service: Service) -> dict[str, float]:
    totals: dict[str, float] = {}
    own = {worker.pid: "workers" for worker in service.workers}
    names = {"postgres": "PostgreSQL", "valkey-server": "Valkey"}
    for process in psutil.Process(os.getpid()).children(recursive=True):
        try:
            times = process.cpu_times()
            name = own.get(process.pid) or names.get(process.name(), "")
        except psutil.NoSuchProcess:
            continue
        if name:
            totals[name] = totals.get(name, 0.0) + times.user + times.system
    return totals


def _first_line_began(database: SessionFactory, batch_id: UUID) -> bool:
    with database() as session:
        began = select(Job.id).where(Job.batch_id == batch_id, Job.line == 1)
        return session.scalar(began.where(Job.started_at.is_not(None))) is not None


def _has_ended(database: SessionFactory, batch_id: UUID) -> bool:
    with database() as session:
        return session.get_one(Batch, batch_id).is_final


def _check(database: SessionFactory, batch_id: UUID, lines: int) -> None:
    with database() as session:
        begin_check(session, timeout_seconds=60)
        batch = session.get_one(Batch, batch_id)
        used = session.execute(
            select(func.count(), func.sum(Usage.prompt_tokens), func.sum(Usage.completion_tokens))
        ).one()
        attempts = session.scalar(select(func.max(Job.attempt)))
        sums = (batch.succeeded, batch.prompt_tokens, batch.completion_tokens)
        assert batch.state == "completed", batch.state
        assert tuple(used) == sums and batch.succeeded == lines, (tuple(used), sums)
        for compare in (compare_jobs, compare_roll_ups, compare_batches):
            differences = list(compare(session, since=None, until=None))
            assert not differences, differences[:5]
        dead = session.execute(
            text("select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relname='batches'")
        ).one()
    print(f"each line once (attempts: {attempts}), sums equal; {dead[0]} raises of the batch")


if __name__ == "__main__":
    main()
