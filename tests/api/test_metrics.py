"""The metrics pages: what they show, where, and what they do not."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import requests
from pydantic import SecretStr

from api.service_facts import ServiceFacts
from core.settings import Settings
from core.worker_registry import WorkerRegistry, WorkerStatus
from tests.minute import wait_for_room
from tests.prometheus import families, samples, scrape, total
from tests.service import Service, free_port, wait_until

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram) \|([^|]*)\|", re.MULTILINE)
BODY = {"prompt": "one two three", "maxTokens": 4}
#: Shown only where there is a GPU, and only when a fault of ours was answered by nobody.
RARE = {
    *(f"bountycoder_gpu_{name}" for name in ("utilization_ratio", "temperature_celsius")),
    *(f"bountycoder_gpu_{name}" for name in ("memory_used_bytes", "memory_total_bytes")),
    "bountycoder_gpu_power_watts",
    "bountycoder_http_request_exceptions_total",
}


@pytest.fixture(scope="module")
def measured(
    base_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """An API, a worker and an admin UI that show their metrics."""
    ports = {f"{name}_metrics_port": free_port() for name in ("api", "worker", "admin")}
    settings = base_settings.model_copy(update={"admin_port": free_port()})
    with Service.started(settings, tmp_path_factory.mktemp("measured"), **ports) as service:
        service.start_over()
        admin = service.spawn("admin-ui")
        try:
            wait_until(lambda: _answers(service.settings.admin_metrics_port), 30, service.logs)
            yield service
        finally:
            admin.terminate()
            admin.wait(20)


def _answers(port: int) -> bool:
    try:
        scrape(port)
    except requests.ConnectionError:
        return False
    return True


def shown(service: Service, program: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return samples(scrape(getattr(service.settings, f"{program}_metrics_port")))


def test_each_page_shows_what_the_documentation_says(measured: Service) -> None:
    headers = {"x-api-key": measured.make_key()["secret"]}
    measured.call("POST", "/api/llm/generate", json=BODY, headers=headers)
    measured.call("GET", "/nothing-here")
    requests.get(f"http://127.0.0.1:{measured.settings.admin_port}/", timeout=10)
    documented = {
        name: (kind, _label_names(text)) for name, kind, text in ROW.findall(DOCS.read_text())
    }

    found = {}
    for program in ("api", "worker", "admin"):
        for family in families(scrape(getattr(measured.settings, f"{program}_metrics_port"))):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = {label for sample in family.samples for label in sample.labels}
            if family.samples:
                found[name] = (family.type, labels - {"le"})

    assert found == {name: said for name, said in documented.items() if name not in RARE}
    assert set(documented) >= RARE


def _label_names(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", text))


def test_customers_cannot_read_metrics_and_scrapers_cannot_call(measured: Service) -> None:
    inside = f"http://127.0.0.1:{measured.settings.api_metrics_port}"
    forged = {"Host": inside.removeprefix("http://"), "X-Forwarded-Port": inside.split(":")[-1]}

    outside = measured.call("GET", "/metrics", headers=forged)
    admin = requests.get(f"http://127.0.0.1:{measured.settings.admin_port}/metrics", timeout=10)
    within = requests.get(f"{inside}/readyz", timeout=10)

    assert outside.status_code == admin.status_code == within.status_code == 404
    assert "bountycoder_" not in outside.text + admin.text


def test_refusals_are_counted_by_their_code(measured: Service) -> None:
    headers = {"x-api-key": measured.make_key(rateLimit=2)["secret"]}
    wait_for_room()

    for _ in range(5):
        measured.call("POST", "/api/llm/jobs", json=BODY, headers=headers)
    values = shown(measured, "api")

    route = "/api/llm/jobs"
    refused = total(
        values, "bountycoder_http_errors_total", code="rate_limit_exceeded", route=route
    )
    counted = "bountycoder_http_request_duration_seconds_count"
    assert refused == 3
    assert total(values, counted, route=route, status="202") == 2
    assert total(values, counted, route=route, status="429") == 3


def test_a_path_or_method_of_the_callers_own_is_no_label(measured: Service) -> None:
    address = ("127.0.0.1", measured.settings.api_port)
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(b"ZANZIBAR /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 405")
    measured.call("GET", "/zanzibar")
    headers = {"x-api-key": measured.make_key(name="zanzibar")["secret"]}
    job = measured.call("POST", "/api/llm/jobs", json=BODY, headers=headers).json()["id"]
    measured.call("GET", f"/api/llm/jobs/{job}", headers=headers)

    text = "".join(
        scrape(getattr(measured.settings, f"{program}_metrics_port"))
        for program in ("api", "worker")
    )

    assert "zanzibar" not in text.lower()
    assert job.removeprefix("gen_") not in text
    assert 'route="/api/llm/jobs/<job_id>"' in text
    assert 'route="unmatched"' in text


def test_a_stream_is_in_progress_until_it_ends(measured: Service) -> None:
    headers = {"x-api-key": measured.make_key()["secret"]}

    def in_progress() -> float:
        return total(shown(measured, "api"), "bountycoder_http_requests_in_progress")

    wait_until(lambda: in_progress() == 0, 20)
    measured.workers[0].send_signal(signal.SIGSTOP)
    try:
        body = {**BODY, "stream": True}
        with measured.call("POST", "/api/llm/generate", json=body, headers=headers, stream=True):
            during = in_progress()
    finally:
        measured.workers[0].send_signal(signal.SIGCONT)

    assert during == 1
    wait_until(lambda: in_progress() == 0, 10)


def facts(settings: Settings, **urls: str) -> tuple[dict[str, float], float]:
    """Return the facts of a service with these addresses, and the seconds that it took."""
    changes = {name: SecretStr(url) for name, url in urls.items()}
    collector = ServiceFacts(settings.model_copy(update=changes))
    began = time.monotonic()
    found = {s.name: s.value for metric in collector.collect() for s in metric.samples}
    return found, time.monotonic() - began


def test_facts_of_a_part_that_is_away_are_missing(
    base_settings: Settings, database: object
) -> None:
    # A database of this test's own: the worker of the others writes heartbeats into the first.
    own = f"{base_settings.redis_url.get_secret_value().removesuffix('/0')}/1"
    with redis.Redis.from_url(own) as client:
        for name in ("a", "b"):
            WorkerRegistry(client).report(WorkerStatus(name, "m", 10, is_ready=True))
    all_there, _ = facts(base_settings, redis_url=own)
    nobody = f"redis://127.0.0.1:{free_port()}/0"
    no_redis, _ = facts(base_settings, redis_url=nobody)

    assert (all_there["bountycoder_database_up"], all_there["bountycoder_redis_up"]) == (1, 1)
    assert all_there["bountycoder_workers"] == 2
    assert (no_redis["bountycoder_database_up"], no_redis["bountycoder_redis_up"]) == (1, 0)
    assert "bountycoder_workers" not in no_redis
    assert no_redis["bountycoder_users"] == 0


def test_a_database_that_says_nothing_does_not_hold_up_a_scrape(base_settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg2://bounty@127.0.0.1:{silent.getsockname()[1]}/bounty"
        found, seconds = facts(base_settings, database_url=url)

    assert found["bountycoder_database_up"] == 0
    assert "bountycoder_users" not in found
    assert seconds < 4
