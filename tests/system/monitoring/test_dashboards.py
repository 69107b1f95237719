"""Every query of every dashboard is valid and finds data of a service with traffic."""

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
from models.monitoring.grafana_role import ROLE
from tests.support.http import batch_files
from tests.support.monitoring.metrics_table import METRIC_ROW, METRICS_DOCUMENT
from tests.support.monitoring.monitored_service import READER_PASSWORD, MonitoredService
from tests.support.monitoring.repeating import repeating
from tests.support.polling import wait_until

#: These have no data here: there is no GPU, and cAdvisor needs containers.
NOT_HERE = re.compile(r"\b(bountycoder_gpu_|container_)")
#: Empty unless an exception was unhandled or a target is down.
EMPTY_IS_GOOD = ("http_request_exceptions_total", 'code="internal_error"', "up == 0")
#: A machine may have no disks.
MAYBE_HERE = re.compile(r"\bnode_(disk|filesystem)_")
WINDOW = "1m"
ALL_WORKERS = ".*"
#: An account that does not exist; its sign-ins are rejected.
STRANGER = {"email": "stranger@example.com", "password": "a wrong password"}


def targets() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each query of each panel, with its place."""
    for board in BOARDS:
        for panel in json.loads(board.json())["panels"]:
            for target in panel.get("targets", []):
                yield f"{board.uid}: {panel['title']} {target['refId']}", target


PROMQL = {where: t["expr"] for where, t in targets() if "expr" in t}
SQL = {where: t["rawSql"] for where, t in targets() if "rawSql" in t}


@pytest.fixture(scope="module")
def used(monitored: MonitoredService) -> Iterator[MonitoredService]:
    """A service with traffic of every kind that dashboards show."""
    service, headers = monitored.service, monitored.headers
    admin = service.sign_in_admin()
    limited = service.make_key(name="limited", rateLimit=1, monthlyTokenLimit=1_000_000)
    service.make_key(name="unused")
    monitored.exporters.write_backup_metric(time.time())
    with closing(redis.Redis.from_url(monitored.valkey.url)) as client:
        client.config_set("maxmemory", 256 * 1024**2)

    def use() -> None:
        monitored.generate()
        monitored.generate(headers={"x-api-key": limited["secret"]})
        monitored.generate(maxTokens=0)
        service.call("GET", "/api/keys", headers=admin)
        service.call("POST", "/api/auth/login", json=STRANGER)
        requests.get(f"http://127.0.0.1:{service.settings.admin_port}/", timeout=30)
        body = {"prompt": "one two", "maxTokens": 4, "webhookUrl": f"{monitored.receiver.url}/job"}
        service.call("POST", "/api/llm/jobs", json=body, headers=headers)

    with monitored.serving_tls(days=365):
        with repeating(use):
            for _ in range(8):
                batch_files.made(service, headers, *batch_files.requests_of(3))
            wait_until(lambda: not _empty(monitored), 30, lambda: "\n".join(_empty(monitored)))
        yield monitored


def _empty(monitored: MonitoredService) -> list[str]:
    """Return the queries that should find data and do not."""
    return [
        f"{where}: {query}"
        for where, query in PROMQL.items()
        if not _may_be_empty(query) and not _found(monitored, query)
    ]


def _may_be_empty(query: str) -> bool:
    is_good = any(name in query for name in EMPTY_IS_GOOD)
    return is_good or bool(NOT_HERE.search(query) or MAYBE_HERE.search(query))


def _found(monitored: MonitoredService, query: str) -> list[dict[str, Any]]:
    """Return what a query finds, sent as Grafana sends it; a rejected query fails the test."""
    plain = query.replace("$__rate_interval", WINDOW).replace("$worker", ALL_WORKERS)
    assert "$" not in plain, query
    return [sample for sample in monitored.monitoring.query(plain) if sample["value"][1] != "NaN"]


def test_every_query_of_metrics_finds_data(used: MonitoredService) -> None:
    def silent() -> list[str]:
        return [where for where, query in PROMQL.items() if not _found(used, query)]

    # A failed scrape under load hides the series of a target briefly.
    wait_until(lambda: not _empty(used), 20, lambda: "\n".join(_empty(used)))
    wait_until(lambda: len(silent()) < len(PROMQL) / 6, 20, lambda: "\n".join(silent()))
    print("no data here:", *silent(), sep="\n  ")


def test_our_metrics_on_dashboards_are_documented() -> None:
    """Metrics of GPUs too, although no GPU is here."""
    documented = {name for name, _, _ in METRIC_ROW.findall(METRICS_DOCUMENT.read_text())}
    names = {name for query in PROMQL.values() for name in re.findall(r"\bbountycoder_\w+", query)}
    ours = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}

    assert ours - documented == set()


def test_every_variable_of_dashboards_has_values(used: MonitoredService) -> None:
    variables = [
        variable["query"]["query"]
        for board in BOARDS
        for variable in json.loads(board.json())["templating"].get("list", [])
    ]

    assert variables == ["label_values(bountycoder_worker_ready, instance)"]
    query = "count by (instance) (bountycoder_worker_ready)"
    wait_until(lambda: len(used.monitoring.query(query)) == 2, 20)


@pytest.fixture(scope="module")
def reader(used: MonitoredService) -> Iterator[Connection]:
    url = make_url(used.service.settings.database_url.get_secret_value())
    engine = create_engine(url.set(username=ROLE, password=READER_PASSWORD))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.mark.parametrize("where", SQL)
def test_every_query_of_rows_is_allowed_and_finds_data(reader: Connection, where: str) -> None:
    found = reader.execute(text(as_grafana_sends(SQL[where]))).mappings().all()

    assert found
    assert all(value is not None for value in found[0].values()) or "last used" in found[0]


def as_grafana_sends(sql: str) -> str:
    """Replace the macros of Grafana's data source."""
    now = time.time()
    since, until = (
        time.strftime("'%Y-%m-%dT%H:%M:%SZ'", time.gmtime(at)) for at in (now - 86400, now + 60)
    )
    sql = sql.replace("$__timeFrom()", since).replace("$__timeTo()", until)
    sql = re.sub(r"\$__timeFilter\(([\w.]+)\)", rf"\1 BETWEEN {since} AND {until}", sql)
    assert "$" not in sql
    return sql
