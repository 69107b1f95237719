"""Every query of every dashboard is understood, and shows something of a service that is used."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import redis
import requests
from sqlalchemy import Connection, create_engine, make_url, text

from docker.grafana.dashboards.__main__ import BOARDS
from models.dashboard_reader import ROLE
from tests.api import batch_files
from tests.api.test_metrics import DOCS, ROW
from tests.monitoring.instance import READER_PASSWORD, Instance, repeating
from tests.service import wait_until

#: Nothing here shows them: there is no GPU, and cAdvisor needs containers.
NOT_HERE = re.compile(r"\b(bountycoder_gpu_|container_)")
#: Shown only after a fault of ours that nothing handled; who does not answer, of all who do.
EMPTY_IS_GOOD = ("http_request_exceptions_total", 'code="internal_error"', "up == 0")
#: Of machines: which of them there are is not ours to say. A machine may have no disks of its own.
MAYBE_HERE = re.compile(r"\bnode_(disk|filesystem)_")
WINDOW = "1m"
ALL_WORKERS = ".*"
#: Who signs in again and again, and is refused.
STRANGER = {"email": "stranger@example.com", "password": "a wrong password"}


def targets() -> Iterator[tuple[str, dict[str, Any]]]:
    """Return each query of each panel, with where it stands."""
    for board in BOARDS:
        for panel in json.loads(board.json())["panels"]:
            for target in panel.get("targets", []):
                yield f"{board.uid}: {panel['title']} {target['refId']}", target


PROMQL = {where: t["expr"] for where, t in targets() if "expr" in t}
SQL = {where: t["rawSql"] for where, t in targets() if "rawSql" in t}


@pytest.fixture(scope="module")
def used(instance: Instance) -> Iterator[Instance]:
    """A service that was used in every way that dashboards tell of."""
    service, headers = instance.service, instance.headers
    admin = service.sign_in_admin()
    limited = service.make_key(name="limited", rateLimit=1, monthlyTokenLimit=1_000_000)
    service.make_key(name="unused")
    instance.say_backup(time.time())
    with closing(redis.Redis.from_url(instance.valkey.url)) as client:
        client.config_set("maxmemory", 256 * 1024**2)

    def use() -> None:
        instance.ask()
        instance.ask(headers={"x-api-key": limited["secret"]})
        instance.ask(maxTokens=0)
        service.call("GET", "/api/keys", headers=admin)
        service.call("POST", "/api/auth/login", json=STRANGER)
        requests.get(f"http://127.0.0.1:{service.settings.admin_port}/", timeout=30)
        body = {"prompt": "one two", "maxTokens": 4, "webhookUrl": f"{instance.receiver.url}/job"}
        service.call("POST", "/api/llm/jobs", json=body, headers=headers)

    with instance.serving_tls(days=365):
        with repeating(use):
            for _ in range(8):
                batch_files.made(service, headers, *batch_files.requests_of(3))
            wait_until(lambda: not _empty(instance), 30, lambda: "\n".join(_empty(instance)))
        yield instance


def _empty(instance: Instance) -> list[str]:
    """Return the queries that should show something and do not."""
    return [
        f"{where}: {query}"
        for where, query in PROMQL.items()
        if not _may_be_empty(query) and not _shown(instance, query)
    ]


def _may_be_empty(query: str) -> bool:
    is_good = any(name in query for name in EMPTY_IS_GOOD)
    return is_good or bool(NOT_HERE.search(query) or MAYBE_HERE.search(query))


def _shown(instance: Instance, query: str) -> list[dict[str, Any]]:
    """Return what a query shows as Grafana sends it; one that is refused fails the test."""
    plain = query.replace("$__rate_interval", WINDOW).replace("$worker", ALL_WORKERS)
    assert "$" not in plain, query
    return [sample for sample in instance.watch.query(plain) if sample["value"][1] != "NaN"]


def test_every_query_of_metrics_is_understood_and_shows_something(used: Instance) -> None:
    def silent() -> list[str]:
        return [where for where, query in PROMQL.items() if not _shown(used, query)]

    # On a busy machine a scrape may fail, which hides what it would have brought for a moment.
    wait_until(lambda: not _empty(used), 20, lambda: "\n".join(_empty(used)))
    wait_until(lambda: len(silent()) < len(PROMQL) / 6, 20, lambda: "\n".join(silent()))
    print("shows nothing here:", *silent(), sep="\n  ")


def test_metrics_of_ours_on_dashboards_are_documented() -> None:
    """Those of GPUs too, which no page shows here."""
    documented = {name for name, _, _ in ROW.findall(DOCS.read_text())}
    names = {name for query in PROMQL.values() for name in re.findall(r"\bbountycoder_\w+", query)}
    ours = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}

    assert ours - documented == set()


def test_every_variable_of_dashboards_has_values(used: Instance) -> None:
    variables = [
        variable["query"]["query"]
        for board in BOARDS
        for variable in json.loads(board.json())["templating"].get("list", [])
    ]

    assert variables == ["label_values(bountycoder_worker_ready, instance)"]
    query = "count by (instance) (bountycoder_worker_ready)"
    wait_until(lambda: len(used.watch.query(query)) == 2, 20)


@pytest.fixture(scope="module")
def reader(used: Instance) -> Iterator[Connection]:
    url = make_url(used.service.settings.database_url.get_secret_value())
    engine = create_engine(url.set(username=ROLE, password=READER_PASSWORD))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.mark.parametrize("where", SQL)
def test_every_query_of_rows_is_allowed_and_shows_something(reader: Connection, where: str) -> None:
    found = reader.execute(text(as_grafana_sends(SQL[where]))).mappings().all()

    assert found
    assert all(value is not None for value in found[0].values()) or "last used" in found[0]


def as_grafana_sends(sql: str) -> str:
    """Replace the macros of Grafana's data source that we use."""
    now = time.time()
    since, until = (
        time.strftime("'%Y-%m-%dT%H:%M:%SZ'", time.gmtime(at)) for at in (now - 86400, now + 60)
    )
    sql = sql.replace("$__timeFrom()", since).replace("$__timeTo()", until)
    sql = re.sub(r"\$__timeFilter\(([\w.]+)\)", rf"\1 BETWEEN {since} AND {until}", sql)
    assert "$" not in sql
    return sql
