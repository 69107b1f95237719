"""Measures cost per request by size of the service. `python -m tests.bench.load.scaling TABLE`

`users`: 100, 1,000 and 10,000 users with a key each. In one more column only 100 of the 10,000
call: it separates the cost of many users from the cost of many different keys.
`jobs`: none, 100,000 and 1,000,000 jobs in the database of 10,000 users.
`queue`: none to 19,000 queued jobs (20,000 is the bound), and no worker.

Each kind of call arrives at the same modest rate. The processor time is that of all processes of
the service, less their use while the service is idle. The latency is without the engine's time.

The databases of `jobs` take minutes to make: `--keep DIR` keeps them for the next run, and
`--only-make` measures nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from sqlalchemy import select, update

from core.config.settings import Settings
from core.ids import Prefix, format_id, new_id
from core.queueing.broker import JobQueue
from core.queueing.names import QueueName
from core.redis.client import open_redis
from core.security.api_key_secret import KeySecret
from models.accounts.api_key import ApiKey
from models.accounts.user import Role, User
from models.database.base import open_database, sessions, utc_now
from models.demo.data import DemoSize
from models.jobs.job import Job
from tests.bench.load.arrivals import Supply
from tests.bench.load.callers import add_callers, adopt_keys
from tests.bench.load.deployment import SETTINGS, Deployment, deployed
from tests.bench.load.mix import Kind, Mix
from tests.bench.load.scaling.cost import Cost, Polls, ShortWaits, costs, of_kind, verdict
from tests.bench.load.tables import table
from tests.bench.servers import DEMO_PASSWORD, MODEL, filled_servers, own_servers

USERS = (100, 1_000, 10_000)
JOBS = (0, 100_000, 1_000_000)
QUEUE = (0, 1_000, 10_000, 19_000)
MOST_USERS = USERS[-1]
#: Number of jobs that are polled in turn.
POLLED = 200
#: The request of the jobs that are polled, or wait.
REQUEST = {"prompt": "Write a Python function that reverses a list", "maxTokens": 32}

Column = dict[str, Cost]


def main() -> None:
    args = _arguments()
    if args.only_make:
        for size in JOBS[1:]:
            with filled_servers(_demo(size), _directory(args.keep, size)):
                pass
        return
    columns = dict(_TABLES[args.table](args))
    report = {
        name: {kind: asdict(cost) for kind, cost in column.items()}
        for name, column in columns.items()
    }
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    print(f"\n{scaling_table(args.table, columns)}")


def scaling_table(name: str, columns: dict[str, Column]) -> str:
    """Return processor time and median latency of each kind at each size."""
    first, *_, last = columns.values()
    rows = [
        (
            kind,
            *(
                f"{column[kind].cpu_ms:.1f} / {column[kind].p50_ms:.1f}"
                for column in columns.values()
            ),
            verdict(first[kind], last[kind]),
        )
        for kind in first
    ]
    return table((f"{name}; CPU ms / p50 ms", *columns, ""), rows)


def _by_users(args: argparse.Namespace) -> Iterator[tuple[str, Column]]:
    """Measure one service with a growing number of users."""
    with deployed(USERS[0], workers=1, pace=0.0) as running:
        database = sessions(open_database(running.service.settings))
        secrets = list(running.secrets)
        for size in USERS:
            with database.begin() as session:
                secrets += add_callers(session, size - len(secrets)) if size > len(secrets) else []
            if size == MOST_USERS:
                few = secrets[: USERS[0]]
                yield f"{size:,}, {len(few)} call", _measure(running, _usual(running, few), args)
            yield f"{size:,}", _measure(running, _usual(running, secrets), args)


def _by_jobs(args: argparse.Namespace) -> Iterator[tuple[str, Column]]:
    """Measure services with a growing number of jobs in the database."""
    for size in JOBS:
        with ExitStack() as stack:
            if size:
                servers = filled_servers(_demo(size), _directory(args.keep, size))
            else:
                servers = own_servers(MODEL)
            settings, _ = stack.enter_context(servers)
            engine = open_database(settings)
            with sessions(engine).begin() as session:
                secrets = (adopt_keys if size else add_callers)(session, MOST_USERS)
                admin = session.scalar(select(User.email).where(User.role == Role.ADMIN).limit(1))
            engine.dispose()
            of_admin = {"ADMIN_EMAIL": admin, "ADMIN_PASSWORD": DEMO_PASSWORD} if admin else {}
            settings = Settings.from_environment(
                {**settings.to_environment(), **SETTINGS, **of_admin}
            )
            logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            running = stack.enter_context(
                Deployment.started(settings, logs, secrets, workers=1, pace=0.0)
            )
            yield f"{size:,}", _measure(running, _usual(running, secrets), args)


def _by_queue(args: argparse.Namespace) -> Iterator[tuple[str, Column]]:
    """Measure a service without workers and with a growing queue."""
    with deployed(MOST_USERS, workers=0, pace=0.0) as running:
        secrets, waiting = running.secrets, 0
        for size in QUEUE:
            jobs = _add_jobs(running, secrets, max(POLLED, size - waiting))
            if not size:  # the jobs can be polled, but none is queued
                _end_jobs(running)
            supplies: dict[str, Supply] = {
                "POST /api/llm/jobs": of_kind(secrets, Kind.JOB),
                "generate, given up after 1 s": ShortWaits(of_kind(secrets, Kind.GENERATE)),
                "GET job, the last of the queue": Polls(
                    jobs[-POLLED:], of_kind(secrets, Kind.LIST)
                ),
                "GET jobs": of_kind(secrets, Kind.LIST),
                "GET usage": of_kind(secrets, Kind.USAGE),
            }
            yield f"{size:,}", _measure(running, supplies, args)
            waiting = _length(running)


def _usual(running: Deployment, secrets: Sequence[str]) -> dict[str, Supply]:
    jobs = _add_jobs(running, secrets, POLLED)
    return {
        "POST /api/llm/jobs": of_kind(secrets, Kind.JOB),
        "generate": of_kind(secrets, Kind.GENERATE),
        "GET job": Polls(jobs, Mix(secrets)),
        "GET jobs": of_kind(secrets, Kind.LIST),
        "GET usage": of_kind(secrets, Kind.USAGE),
    }


def _measure(running: Deployment, supplies: dict[str, Supply], args: argparse.Namespace) -> Column:
    column = asyncio.run(costs(running, supplies, rate=args.rate, seconds=args.seconds))
    for kind, cost in column.items():
        print(f"{kind:32}{cost.cpu_ms:8.2f} CPU ms{cost.p50_ms:10.1f} ms p50", flush=True)
    return column


def _add_jobs(running: Deployment, secrets: Sequence[str], count: int) -> list[tuple[str, str]]:
    """Queue jobs, spread over the keys; return their paths and secrets, in order."""
    by_public_id = {_public_id(secret): secret for secret in secrets}
    client, database = open_redis(running.service.settings), open_database(running.service.settings)
    with sessions(database).begin() as session:
        keys = session.execute(
            select(ApiKey.id, ApiKey.user_id, ApiKey.public_id)
            .where(ApiKey.public_id.in_(list(by_public_id)[:MOST_USERS]))
            .limit(count)
        ).all()
        rows = []
        for number in range(count):
            key_id, user_id, public_id = keys[number % len(keys)]
            job = Job(
                id=new_id(),
                user_id=user_id,
                api_key_id=key_id,
                queue=QueueName.INTERACTIVE,
                model=running.service.settings.model_name,
                request=REQUEST,
            )
            rows.append((job, by_public_id[public_id]))
        session.add_all(job for job, _ in rows)
    queue = JobQueue(client)
    for job, _ in rows:
        queue.send(job.id, QueueName.INTERACTIVE)
    client.close()
    database.dispose()
    return [(f"/api/llm/jobs/{format_id(Prefix.JOB, job.id)}", secret) for job, secret in rows]


def _end_jobs(running: Deployment) -> None:
    """Cancel all jobs, and empty the queue."""
    settings = running.service.settings
    engine, client = open_database(settings), open_redis(settings)
    with engine.begin() as connection:
        connection.execute(update(Job).values(state="cancelled", finished_at=utc_now()))
    client.flushall()
    client.close()
    engine.dispose()


def _length(running: Deployment) -> int:
    client = open_redis(running.service.settings)
    length = JobQueue(client).length(QueueName.INTERACTIVE)
    client.close()
    return length


def _public_id(secret: str) -> str:
    parsed = KeySecret.parse(secret)
    assert parsed is not None
    return parsed.public_id


def _demo(jobs: int) -> DemoSize:
    return DemoSize(users=MOST_USERS, keys=MOST_USERS, jobs=jobs)


def _directory(keep: Path | None, jobs: int) -> Path | None:
    return None if keep is None else keep / f"jobs-{jobs}"


_TABLES = {"users": _by_users, "jobs": _by_jobs, "queue": _by_queue}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=list(_TABLES))
    parser.add_argument("--rate", type=float, default=50.0, help="calls a second")
    parser.add_argument("--seconds", type=float, default=7.0, help="of each kind at each size")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="directory that keeps the databases"
    )
    parser.add_argument(
        "--only-make", action="store_true", help="make the databases, and measure nothing"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
