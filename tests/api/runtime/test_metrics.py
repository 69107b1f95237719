"""The metrics pages: their metrics, their ports, and labels without input of callers."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Iterator

import pytest
import redis
import requests
from pydantic import SecretStr

from api.runtime.service_metrics import ServiceMetrics
from cli.system.ports import free_port
from core.config.settings import Settings
from core.queueing.workers import WorkerRegistry, WorkerStatus
from tests.support.minute import wait_for_room
from tests.support.monitoring.metrics_table import METRIC_ROW, METRICS_DOCUMENT
from tests.support.polling import wait_until
from tests.support.prometheus import families, samples, scrape, total
from tests.support.service import Service

BODY = {"prompt": "one two three", "maxTokens": 4}
#: Metrics that need a GPU, or an exception that no handler turned into a response.
RARE = {
    *(f"bountycoder_gpu_{name}" for name in ("utilization_ratio", "temperature_celsius")),
    *(f"bountycoder_gpu_{name}" for name in ("memory_used_bytes", "memory_total_bytes")),
    "bountycoder_gpu_power_watts",
    "bountycoder_http_request_exceptions_total",
}


@pytest.fixture(scope="module")
def metrics_service(
    base_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """An API, a worker and an admin UI, each with a metrics port."""
    ports = {f"{name}_metrics_port": free_port() for name in ("api", "worker", "admin")}
    settings = base_settings.model_copy(update={"admin_port": free_port()})
    with Service.started(settings, tmp_path_factory.mktemp("measured"), **ports) as service:
        service.start_over()
        admin = service.spawn("admin-ui")
        try:
            wait_until(lambda: _responds(service.settings.admin_metrics_port), 30, service.logs)
            yield service
        finally:
            admin.terminate()
            admin.wait(20)


def _responds(port: int) -> bool:
    try:
        scrape(port)
    except requests.ConnectionError:
        return False
    return True


def read_metrics(
    service: Service, program: str
) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return samples(scrape(getattr(service.settings, f"{program}_metrics_port")))


def test_each_page_has_the_documented_metrics(metrics_service: Service) -> None:
    headers = {"x-api-key": metrics_service.make_key()["secret"]}
    metrics_service.call("POST", "/api/llm/generate", json=BODY, headers=headers)
    metrics_service.call("GET", "/nothing-here")
    requests.get(f"http://127.0.0.1:{metrics_service.settings.admin_port}/", timeout=10)
    documented = {
        name: (kind, _label_names(text))
        for name, kind, text in METRIC_ROW.findall(METRICS_DOCUMENT.read_text())
    }

    found = {}
    for program in ("api", "worker", "admin"):
        for family in families(
            scrape(getattr(metrics_service.settings, f"{program}_metrics_port"))
        ):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = {label for sample in family.samples for label in sample.labels}
            if family.samples:
                found[name] = (family.type, labels - {"le"})

    assert found == {name: said for name, said in documented.items() if name not in RARE}
    assert set(documented) >= RARE


def _label_names(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", text))


def test_customers_cannot_read_metrics_and_scrapers_cannot_call(metrics_service: Service) -> None:
    inside = f"http://127.0.0.1:{metrics_service.settings.api_metrics_port}"
    forged = {"Host": inside.removeprefix("http://"), "X-Forwarded-Port": inside.split(":")[-1]}

    outside = metrics_service.call("GET", "/metrics", headers=forged)
    admin = requests.get(
        f"http://127.0.0.1:{metrics_service.settings.admin_port}/metrics", timeout=10
    )
    within = requests.get(f"{inside}/readyz", timeout=10)

    assert outside.status_code == admin.status_code == within.status_code == 404
    assert "bountycoder_" not in outside.text + admin.text


def test_refusals_are_counted_by_their_code(metrics_service: Service) -> None:
    headers = {"x-api-key": metrics_service.make_key(rateLimit=2)["secret"]}
    wait_for_room()

    for _ in range(5):
        metrics_service.call("POST", "/api/llm/jobs", json=BODY, headers=headers)
    values = read_metrics(metrics_service, "api")

    route = "/api/llm/jobs"
    refused = total(
        values, "bountycoder_http_errors_total", code="rate_limit_exceeded", route=route
    )
    counted = "bountycoder_http_request_duration_seconds_count"
    assert refused == 3
    assert total(values, counted, route=route, status="202") == 2
    assert total(values, counted, route=route, status="429") == 3


def test_an_unknown_path_or_method_is_no_label(metrics_service: Service) -> None:
    address = ("127.0.0.1", metrics_service.settings.api_port)
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(b"ZANZIBAR /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 405")
    metrics_service.call("GET", "/zanzibar")
    headers = {"x-api-key": metrics_service.make_key(name="zanzibar")["secret"]}
    job = metrics_service.call("POST", "/api/llm/jobs", json=BODY, headers=headers).json()["id"]
    metrics_service.call("GET", f"/api/llm/jobs/{job}", headers=headers)

    text = "".join(
        scrape(getattr(metrics_service.settings, f"{program}_metrics_port"))
        for program in ("api", "worker")
    )

    assert "zanzibar" not in text.lower()
    assert job.removeprefix("gen_") not in text
    assert 'route="/api/llm/jobs/<job_id>"' in text
    assert 'route="unmatched"' in text


def test_a_stream_is_in_progress_until_it_ends(metrics_service: Service) -> None:
    headers = {"x-api-key": metrics_service.make_key()["secret"]}

    def in_progress() -> float:
        return total(read_metrics(metrics_service, "api"), "bountycoder_http_requests_in_progress")

    wait_until(lambda: in_progress() == 0, 20)
    metrics_service.workers[0].send_signal(signal.SIGSTOP)
    try:
        body = {**BODY, "stream": True}
        with metrics_service.call(
            "POST", "/api/llm/generate", json=body, headers=headers, stream=True
        ):
            during = in_progress()
    finally:
        metrics_service.workers[0].send_signal(signal.SIGCONT)

    assert during == 1
    wait_until(lambda: in_progress() == 0, 10)


def collect(settings: Settings, **urls: str) -> tuple[dict[str, float], float]:
    """Return the service metrics with these URLs, and the seconds that collecting took."""
    changes = {name: SecretStr(url) for name, url in urls.items()}
    collector = ServiceMetrics(settings.model_copy(update=changes))
    began = time.monotonic()
    found = {s.name: s.value for metric in collector.collect() for s in metric.samples}
    return found, time.monotonic() - began


def test_metrics_of_a_part_that_is_away_are_missing(
    base_settings: Settings, database: object
) -> None:
    # The Redis database 1: the worker of the other tests writes heartbeats to database 0.
    own = f"{base_settings.redis_url.get_secret_value().removesuffix('/0')}/1"
    with redis.Redis.from_url(own) as client:
        for name in ("a", "b"):
            WorkerRegistry(client).report(WorkerStatus(name, "m", 10, is_ready=True))
    all_there, _ = collect(base_settings, redis_url=own)
    away = f"redis://127.0.0.1:{free_port()}/0"
    no_redis, _ = collect(base_settings, redis_url=away)

    assert (all_there["bountycoder_database_up"], all_there["bountycoder_redis_up"]) == (1, 1)
    assert all_there["bountycoder_workers"] == 2
    assert (no_redis["bountycoder_database_up"], no_redis["bountycoder_redis_up"]) == (1, 0)
    assert "bountycoder_workers" not in no_redis
    assert no_redis["bountycoder_users"] == 0


@pytest.mark.alone
def test_a_database_that_does_not_respond_does_not_delay_a_scrape(base_settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg2://bounty@127.0.0.1:{silent.getsockname()[1]}/bounty"
        found, seconds = collect(base_settings, database_url=url)

    assert found["bountycoder_database_up"] == 0
    assert "bountycoder_users" not in found
    assert seconds < 4
