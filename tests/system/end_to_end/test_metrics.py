"""Counters that Prometheus scrapes are exact although processes are killed."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from sqlalchemy import create_engine, text

from cli.system.ports import free_port
from core.config.settings import Settings
from tests.support.polling import wait_until
from tests.support.prometheus import Scraper
from tests.support.service import Service

REQUESTS = 60
AT_ONCE = 12
#: Each completion takes a third of a second, so that a killed process has running ones.
BODY = {"prompt": "one two three four five six seven eight nine ten", "maxTokens": 16}
PACE = {"echo_tokens_per_second": 50.0, "lease_seconds": 1.0}


class Fleet:
    """Two API processes behind one address and two workers, with their metrics."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.ports = [free_port(), free_port()]
        self.workers = [self.add_worker(port) for port in self.ports]
        service.wait_ready(len(self.workers))
        self.headers = {"x-api-key": service.make_key()["secret"]}
        self.scraper = Scraper(service.settings.api_metrics_port, *self.ports)

    def add_worker(self, port: int) -> subprocess.Popen[bytes]:
        return self.service.add_worker(worker_metrics_port=port)

    def generate(self, _: int) -> int:
        """Make one request on a new connection; return its status, or 0 if it broke."""
        url = f"{self.service.url}/api/llm/generate"
        try:
            return requests.post(url, json=BODY, headers=self.headers, timeout=60).status_code
        except requests.ConnectionError:
            return 0

    def ends_written(self) -> int:
        return self.rows("select '', count(*) from jobs where finished_at is not null")[0][1]

    def ends_scraped(self) -> float:
        """Scrape; return the number of ended jobs that the workers have counted."""
        self.scraper.scrape()
        return self.scraper.total("bountycoder_jobs_total")

    def rows(self, sql: str) -> list[tuple[str, int]]:
        engine = create_engine(self.service.settings.database_url.get_secret_value())
        with engine.connect() as connection:
            found = [(row[0], row[1]) for row in connection.execute(text(sql))]
        engine.dispose()
        return found


@pytest.fixture(scope="module")
def fleet(
    base_settings: Settings,
    servers: object,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("fleet")
    metrics = {"api_processes": 2, "api_metrics_port": free_port(), "metrics_dir": f"{directory}/m"}
    with Service.started(base_settings, directory, workers=0, **metrics, **PACE) as service:
        service.start_over()
        yield Fleet(service)


def test_totals_are_exact_although_processes_are_killed(fleet: Fleet) -> None:
    fleet.scraper.scrape()
    earlier = fleet.scraper.total("bountycoder_jobs_total")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        statuses = list(pool.map(fleet.generate, range(REQUESTS)))
        fleet.scraper.scrape()
        under_way = pool.map(fleet.generate, range(REQUESTS))
        wait_until(lambda: _running(fleet) >= AT_ONCE / 2, 20)
        fleet.service.end_worker(fleet.workers[0], signal.SIGKILL)
        fleet.service.kill_api_process()
        fleet.workers[0] = fleet.add_worker(fleet.ports[0])
        statuses += under_way
        fleet.service.wait_ready(2)
        statuses += pool.map(fleet.generate, range(REQUESTS))
    wait_until(lambda: not fleet.rows("select '', 1 from jobs where finished_at is null"), 30)
    wait_until(lambda: fleet.ends_scraped() >= fleet.ends_written(), 10)

    assert set(statuses) <= {200, 0}
    succeeded, broken = statuses.count(200), statuses.count(0)
    assert succeeded >= 2 * REQUESTS
    total = fleet.scraper.total
    ended = dict(fleet.rows("select state, count(*) from jobs group by state"))
    assert earlier == 0
    assert {
        state: total("bountycoder_jobs_total", state=state, queue="interactive") for state in ended
    } == ended
    used = fleet.rows("select sum(prompt_tokens), sum(completion_tokens) from usage")
    for name in ("prompt", "generation"):
        assert total(f"bountycoder_{name}_tokens_total") == used[0][name == "generation"]
    of_generate = {"route": "/api/llm/generate", "status": "200"}
    counted = total("bountycoder_http_request_duration_seconds_count", **of_generate)
    assert succeeded <= counted <= succeeded + broken
    assert total("bountycoder_e2e_request_latency_seconds_count") == sum(ended.values())


def test_a_process_that_replaces_another_has_its_number(fleet: Fleet) -> None:
    fleet.service.kill_api_process()

    def processes() -> set[str]:
        scraper = Scraper(fleet.service.settings.api_metrics_port)
        scraper.scrape()
        return {
            dict(labels)["process"]
            for name, labels in scraper.gained
            if name == "process_start_time_seconds"
        }

    wait_until(lambda: processes() == {"0", "1"}, 10)


def _running(fleet: Fleet) -> int:
    return fleet.rows("select '', count(*) from jobs where state = 'running'")[0][1]
