"""A batch while all that runs it is killed. `python -m tests.system.faults.bulk`

PostgreSQL, Valkey, API and workers are real processes. The program kills workers, with their
dispatchers, and the API at random moments and starts them again. Once it kills Valkey and deletes
its data. The batch must complete with each line done once, one webhook, and exact sums. `--seed`
repeats the moments of a run, which prints its seed.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from sqlalchemy import func, select

from cli.servers.postgres import Postgres
from cli.servers.valkey import Valkey
from core.config.settings import Settings
from migrations.run import upgrade
from models.batches.batch import Batch
from models.database.base import SessionFactory, open_database, sessions
from models.jobs.job import Job
from models.maintenance.consistency import begin_check, compare_batches, compare_jobs
from models.maintenance.rollup_consistency import compare_roll_ups
from models.usage.usage import Usage
from models.webhooks.webhook import WebhookDelivery
from tests.bench.servers import MODEL
from tests.support.http.batch_files import PATH, batch_uuid, made, requests_of
from tests.support.polling import wait_until
from tests.support.processes import end
from tests.support.service import Service

MOST_SECONDS = 600.0
KILL_SECONDS = 10.0
#: A line takes about half a second. The lease is short, and attempts do not run out.
ENVIRONMENT = {
    "ENGINE": "echo",
    "ECHO_TOKENS_PER_SECOND": "10",
    "LEASE_SECONDS": "4",
    "MAX_ATTEMPTS": "50",
    "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
}
#: No receiver listens there: the webhook only has to exist once.
NOWHERE = "http://127.0.0.1:1029/hook"


@dataclass
class Faults:
    """Kills parts of a service, and starts them again."""

    service: Service
    draw: random.Random
    valkey: Valkey | None = None
    killed: list[str] = field(default_factory=list)

    def kill_one(self) -> None:
        """Kill a worker or, one time in four, the API."""
        if self.draw.random() < 0.25:
            self.kill_api()
        else:
            self.kill_worker()

    def kill_api(self) -> None:
        assert self.service.api is not None
        end(self.service.api, signal.SIGKILL)
        self.service.api = self.service.spawn("api")
        self.killed.append("api")

    def kill_worker(self) -> None:
        number = self.draw.randrange(len(self.service.workers))
        end(self.service.workers[number], signal.SIGKILL)
        self.service.workers[number] = self.service.spawn("worker")
        self.killed.append("worker")

    def lose_valkey(self) -> None:
        """Kill Valkey, delete its data and start it again."""
        assert self.valkey is not None and self.valkey.child is not None
        self.valkey.child.stop(signal.SIGKILL, KILL_SECONDS)
        shutil.rmtree(self.valkey.directory)
        self.valkey.start()
        self.killed.append("valkey")


@dataclass(frozen=True)
class Sent:
    """A batch, and the headers of its key."""

    id: UUID
    address: str
    headers: dict[str, str]


def send_batch(service: Service, lines: int) -> Sent:
    """Submit a batch with a webhook and a key with a monthly quota."""
    key = service.make_key(monthlyTokenLimit=10_000_000)
    headers = {"x-api-key": key["secret"]}
    batch = made(service, headers, *requests_of(lines), query=f"?webhookUrl={NOWHERE}")
    return Sent(batch_uuid(batch), f"{PATH}/{batch['id']}", headers)


def count_ended(database: SessionFactory, batch_id: UUID) -> int:
    with database() as session:
        return session.get_one(Batch, batch_id).ended


def has_completed(database: SessionFactory, batch_id: UUID) -> bool:
    with database() as session:
        return session.get_one(Batch, batch_id).is_final


def check_results(service: Service, sent: Sent, lines: int) -> None:
    """Check that the results have each line once, in order, with its `custom_id`."""
    response = service.call("GET", f"{sent.address}/results", headers=sent.headers)
    results = [json.loads(line) for line in response.text.splitlines()]
    assert response.headers["x-batch-status"] == "completed"
    assert [result["line"] for result in results] == list(range(1, lines + 1))
    assert [result["custom_id"] for result in results] == [f"c{i}" for i in range(lines)]
    assert {result["status"] for result in results} == {"succeeded"}


def check_sums(database: SessionFactory, batch_id: UUID, lines: int) -> str:
    """Check that each line was done once and that all sums are exact; return a summary."""
    with database() as session:
        begin_check(session, timeout_seconds=60)
        batch = session.get_one(Batch, batch_id)
        assert (batch.state, batch.succeeded) == ("completed", lines)
        own = select(Job.id).where(Job.batch_id == batch_id)
        used = session.execute(
            select(
                func.count(), func.sum(Usage.prompt_tokens), func.sum(Usage.completion_tokens)
            ).where(Usage.job_id.in_(own))
        ).one()
        assert tuple(used) == (lines, batch.prompt_tokens, batch.completion_tokens)
        for compare in (compare_jobs, compare_roll_ups, compare_batches):
            assert list(compare(session, since=None, until=None)) == []
        events = session.scalars(
            select(WebhookDelivery.event).where(WebhookDelivery.batch_id == batch_id)
        )
        assert events.all() == ["batch.completed"]
        retried = select(func.count()).where(Job.batch_id == batch_id, Job.attempt > 1)
        return f"{session.scalar(retried)} lines had a second attempt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--model", type=Path, default=MODEL, help="a directory with a tokenizer")
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        postgres = Postgres(directory / "postgres", log_dir=directory)
        valkey = Valkey(directory / "valkey", log_dir=directory)
        servers = {"DATABASE_URL": postgres.url, "REDIS_URL": valkey.url}
        environment = {**servers, "MODEL_PATH": str(args.model), **ENVIRONMENT}
        try:
            postgres.start()
            valkey.start()
            upgrade(postgres.url)
            _run(Settings.from_environment(environment), directory, valkey, args)
        finally:
            valkey.stop()
            postgres.stop()


def _run(settings: Settings, directory: Path, valkey: Valkey, args: argparse.Namespace) -> None:
    engine = open_database(settings)
    database = sessions(engine)
    draw = random.Random(args.seed)
    with Service.started(settings, directory, workers=args.workers) as service:
        faults = Faults(service, draw, valkey)
        began = time.monotonic()
        sent = send_batch(service, args.lines)
        batch_id = sent.id
        # Within the first nine tenths of the batch, so that the batch still runs.
        moments = sorted(draw.uniform(0, 0.9) for _ in range(args.kills))
        lost_at = draw.randrange(args.kills)
        for number, moment in enumerate(moments):
            wait_until(
                lambda moment=moment: count_ended(database, batch_id) >= moment * args.lines,
                MOST_SECONDS,
                service.logs,
            )
            time.sleep(draw.uniform(0, 1))  # the moment of a kill is random
            faults.kill_one()
            if number == lost_at:
                faults.lose_valkey()
            killed = ", ".join(faults.killed[-2 if number == lost_at else -1 :])
            ended = count_ended(database, batch_id)
            seconds = time.monotonic() - began
            print(f"{seconds:6.1f} s: {ended} lines have ended, killed: {killed}", flush=True)
        wait_until(lambda: has_completed(database, batch_id), MOST_SECONDS, service.logs)
        print(f"{time.monotonic() - began:6.1f} s: the batch has completed")
        wait_until(service.responds, MOST_SECONDS, service.logs)
        check_results(service, sent, args.lines)
    print(f"each line once, all sums exact; {check_sums(database, batch_id, args.lines)}")
    engine.dispose()


if __name__ == "__main__":
    main()
