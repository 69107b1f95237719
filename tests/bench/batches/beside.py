"""Measures what batches cost other requests. `python -m tests.bench.batches.beside`

Two figures, each a ratio within one run of the real service with the small model:

1. A key sends interactive requests one at a time while a batch of 5,000 lines runs. Its time to
   first token is divided by the time beside a full engine of interactive requests.
2. Two customers have a batch of 5,000 lines and one of 160. The tokens of both batches are compared
   while the short one goes from 20 ended lines to 140: both have waiting lines all that time.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from models.database.base import SessionFactory, open_database, sessions
from models.jobs.job import Job
from tests.bench.fairness import NEW_TOKENS, PROMPT, ConstantLoad, first_token_seconds
from tests.bench.servers import MODEL, own_servers
from tests.support.http.batch_files import PATH as BATCHES
from tests.support.http.batch_files import batch_uuid, made
from tests.support.polling import wait_until
from tests.support.service import Service
from tests.system.faults.bulk import count_ended, has_completed

AT_ONCE = 16
LONG, SHORT = 5000, 160
SETTLE_SECONDS = 5.0
MOST_SECONDS = 600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--requests", type=int, default=8, help="interactive, of a round")
    args = parser.parse_args()
    environment = {"ENGINE_MAX_SEQUENCES": str(AT_ONCE), "SYNC_WAIT_SECONDS": "600"}
    with (
        own_servers(args.model, **environment) as (settings, directory),
        Service.started(settings, directory) as service,
    ):
        _first_token(service, args.requests)
        _shares(service)


def _first_token(service: Service, count: int) -> None:
    """Alternate: interactive, bulk, interactive, bulk."""
    key, other, bulk = (service.make_key() for _ in range(3))
    times: dict[str, list[float]] = {"interactive": [], "bulk": []}
    for _ in range(2):
        load = ConstantLoad(service, other, AT_ONCE)
        load.start()
        time.sleep(SETTLE_SECONDS)
        times["interactive"].append(first_token_seconds(service, key, count))
        load.stop()
        batch = _send(service, bulk, LONG)
        time.sleep(SETTLE_SECONDS)
        times["bulk"].append(first_token_seconds(service, key, count))
        _cancel(service, bulk, batch)
    for name, seconds in times.items():
        medians = ", ".join(f"{one:.3f}" for one in seconds)
        print(f"beside {AT_ONCE} {name} requests: first token after {medians} s (medians)")
    ratio = sum(times["bulk"]) / sum(times["interactive"])
    print(f"first token beside a batch over beside interactive requests: {ratio:.2f}", flush=True)


def _shares(service: Service) -> None:
    keys = [_customer(service, name) for name in ("long", "short")]
    batches = [_send(service, keys[0], LONG), _send(service, keys[1], SHORT)]
    engine = open_database(service.settings)
    database, short_id = sessions(engine), batch_uuid(batches[1])
    marks = []
    for lines in (20, SHORT - 20):
        wait_until(lambda lines=lines: count_ended(database, short_id) >= lines, MOST_SECONDS)
        marks.append(_tokens(database, batches))
    engine.dispose()
    _cancel(service, keys[0], batches[0])
    long, short = (now - then for then, now in zip(*marks, strict=True))
    print(f"tokens of a batch of {LONG} over those of one of {SHORT}: {long / short:.2f}")


def _customer(service: Service, name: str) -> dict[str, Any]:
    body = {"email": f"{name}@example.com", "password": "a long password"}
    user = service.call("POST", "/api/auth/register", json=body).json()["user"]
    return service.make_key(userId=user["id"])


def _send(service: Service, key: dict[str, Any], lines: int) -> dict[str, Any]:
    line = {"prompt": PROMPT, "maxTokens": NEW_TOKENS, "ignoreEos": True}
    return made(service, {"x-api-key": key["secret"]}, *[line] * lines)


def _await_end(service: Service, batch: dict[str, Any]) -> None:
    engine = open_database(service.settings)
    wait_until(lambda: has_completed(sessions(engine), batch_uuid(batch)), MOST_SECONDS)
    engine.dispose()


def _cancel(service: Service, key: dict[str, Any], batch: dict[str, Any]) -> None:
    path = f"{BATCHES}/{batch['id']}/cancel"
    service.call("POST", path, headers={"x-api-key": key["secret"]})
    _await_end(service, batch)


def _tokens(database: SessionFactory, batches: list[dict[str, Any]]) -> list[int]:
    """Return the tokens that the ended lines of each batch have generated."""
    query = select(func.coalesce(func.sum(Job.completion_tokens), 0))
    with database() as session:
        found = [
            session.scalar(query.where(Job.batch_id == batch_uuid(batch))) for batch in batches
        ]
    return [int(tokens or 0) for tokens in found]


if __name__ == "__main__":
    main()
