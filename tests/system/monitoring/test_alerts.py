"""Alerts fire during their fault, reach the receiver, and are resolved after it."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial

import psycopg2
import pytest
import redis
import requests
import yaml

from cli.monitoring.rendering import render
from cli.monitoring.settings import MonitoringSettings
from tests.support.monitoring.monitored_service import SLOW_PACE, MonitoredService
from tests.support.monitoring.repeating import repeating
from tests.support.polling import wait_until

YEAR, WEEK = 365.0, 7.0
#: More than `ALERT_CONNECTIONS_RATIO` of PostgreSQL's hundred.
CONNECTIONS = 45
#: Longer than `ALERT_API_SECONDS`, and shorter than the time-out of a lock.
LOCKED_SECONDS = 2.5
LONG_PROMPT = "word " * 4000
LONGER = "word " * 20
#: Workers so slow that eight callers wait for three rounds of a second each.
SLOW = {"echo_tokens_per_second": SLOW_PACE, "worker_jobs": 1, "max_attempts": 1}


@pytest.fixture
def steady(monitored: MonitoredService) -> Iterator[None]:
    """Steady traffic of a healthy service, apart from the fault of the test."""
    monitored.exporters.write_backup_metric(time.time() + 3600)
    with monitored.serving_tls(days=YEAR), repeating(monitored.generate, threads=2):
        yield


def test_independent_faults_fire_their_alerts(monitored: MonitoredService) -> None:
    """Each of these parts has its own alert. All are broken at once to save time."""
    monitoring = monitored.monitoring
    impatient = {"x-api-key": monitored.service.make_key(rateLimit=2)["secret"]}
    long_prompt = partial(monitored.generate, prompt=LONG_PROMPT)
    faults = {
        "CertificateExpiring": lambda: monitored.serving_tls(days=WEEK),
        "RateLimitViolations": lambda: repeating(lambda: monitored.generate(headers=impatient)),
        "HighTokenUsage": lambda: repeating(long_prompt, threads=2),
        "HighApiLatency": lambda: slow_calls(monitored),
        "DatabaseConnections": lambda: many_connections(monitored),
        "RedisMemory": lambda: little_memory(monitored),
    }
    wait = ("NoBackup", "EndpointDown")  # no backup was made, and nothing responds to the probe

    monitored.exporters.write_backup_metric(None)
    monitoring.wait_firing(*wait)
    monitored.exporters.write_backup_metric(time.time() - 86400)
    with ExitStack() as stack:
        for break_it in faults.values():
            stack.enter_context(break_it())
        monitoring.wait_firing(*faults, "BackupTooOld")
        monitoring.wait_resolved(*wait)
    monitored.exporters.write_backup_metric(time.time() + 3600)
    with monitored.serving_tls(days=YEAR):
        monitoring.wait_resolved(*faults, "BackupTooOld")


@contextmanager
def slow_calls(monitored: MonitoredService) -> Iterator[None]:
    """Let calls wait for a table that another session locks repeatedly."""
    headers = monitored.service.sign_in_admin()

    def read() -> None:
        requests.get(f"{monitored.service.url}/api/admin/activity", headers=headers, timeout=30)

    def lock() -> None:
        with closing(connect(monitored)) as connection, connection.cursor() as cursor:
            cursor.execute("lock table audit_log in access exclusive mode")
            cursor.execute("select pg_sleep(%s)", (LOCKED_SECONDS,))

    with repeating(read, threads=4), repeating(lock):
        yield


@contextmanager
def many_connections(monitored: MonitoredService) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(closing(connect(monitored)))
        yield


@contextmanager
def little_memory(monitored: MonitoredService) -> Iterator[None]:
    """Lower the memory of Redis until it uses more than `ALERT_REDIS_MEMORY_RATIO`."""
    with closing(redis.Redis.from_url(monitored.valkey.url)) as client:
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", round(used * 1.7))
        try:
            yield
        finally:
            client.config_set("maxmemory", 0)


def connect(monitored: MonitoredService) -> psycopg2.extensions.connection:
    return psycopg2.connect(monitored.postgres.url.replace("+psycopg2", ""))


@pytest.mark.usefixtures("steady")
def test_without_redis_one_alert_is_sent_for_all_errors(monitored: MonitoredService) -> None:
    monitoring = monitored.monitoring
    monitored.skip_alerts()

    monitored.valkey.stop()
    monitoring.wait_firing("RedisDown", "HighErrorRate")
    monitoring.wait_suppressed("HighErrorRate", by="RedisDown")
    monitored.wait_sent("firing", "RedisDown")
    monitored.valkey.start()
    monitoring.wait_resolved("RedisDown", "HighErrorRate")
    monitored.wait_sent("resolved", "RedisDown")


@pytest.mark.usefixtures("steady")
def test_without_a_database_one_alert_is_sent_for_all_errors(monitored: MonitoredService) -> None:
    monitoring = monitored.monitoring
    monitored.skip_alerts()

    monitored.postgres.stop()
    monitoring.wait_firing("DatabaseDown", "HighErrorRate")
    monitoring.wait_suppressed("HighErrorRate", by="DatabaseDown")
    monitored.wait_sent("firing", "DatabaseDown")
    monitored.postgres.spawn()
    monitored.postgres.wait_ready()
    monitoring.wait_resolved("DatabaseDown", "HighErrorRate")
    monitored.wait_sent("resolved", "DatabaseDown")


def test_without_workers_no_alerts_about_the_queue_are_sent(monitored: MonitoredService) -> None:
    monitoring, follows = monitored.monitoring, ("QueueOld", "Overloaded")
    monitored.skip_alerts()

    for number in (0, 1):
        monitored.end_worker(number, signal.SIGKILL)
    with repeating(lambda: post_job(monitored)):
        monitoring.wait_firing("NoWorkers", "TargetDown", "HighErrorRate", *follows)
        for name in follows:
            monitoring.wait_suppressed(name, by="NoWorkers")
    monitored.wait_sent("firing", "NoWorkers", "HighErrorRate")
    for number in (0, 1):
        monitored.start_worker(number, **SLOW)
    monitoring.wait_resolved("NoWorkers", "HighErrorRate", *follows)
    monitored.wait_sent("resolved", "NoWorkers", "HighErrorRate")


def test_slow_workers_and_lost_jobs_fire_alerts(monitored: MonitoredService) -> None:
    """`SLOW` workers run one job at a time and give it no second attempt."""
    monitoring = monitored.monitoring
    slow = ("SlowGeneration", "HighTimeToFirstToken")
    monitored.skip_alerts()

    with repeating(lambda: monitored.generate(prompt=LONGER, maxTokens=16), threads=8):
        monitoring.wait_firing(*slow)
        wait_until(
            lambda: monitored.running() == 2, 20
        )  # each runs one: the killed worker's is lost
        monitored.end_worker(0, signal.SIGKILL)
        monitoring.wait_firing("JobsFail")
        monitored.wait_sent("firing", *slow, "JobsFail")
    monitored.start_worker(0)
    # Without any worker Alertmanager would suppress the other alerts and their ends.
    wait_until(lambda: monitoring.value("sum(bountycoder_worker_ready)") == 2, 60)
    monitored.end_worker(1)
    monitored.start_worker(1)
    monitoring.wait_firing("WorkerRestarting")
    with repeating(monitored.generate, threads=2):
        monitoring.wait_resolved(*slow, "JobsFail", "TargetDown")
    monitored.wait_sent("resolved", *slow, "JobsFail")


def post_job(monitored: MonitoredService) -> None:
    requests.post(
        f"{monitored.service.url}/api/llm/jobs",
        json={"prompt": "one two three", "maxTokens": 8},
        headers=monitored.headers,
        timeout=30,
    )


@pytest.mark.usefixtures("steady")
def test_without_an_api_no_alert_about_its_target_is_sent(monitored: MonitoredService) -> None:
    monitoring = monitored.monitoring
    monitored.skip_alerts()

    monitored.kill_api()
    monitoring.wait_firing("ApiDown", "TargetDown")
    monitoring.wait_suppressed("TargetDown", by="ApiDown")
    monitored.wait_sent("firing", "ApiDown")
    monitored.service.api = monitored.service.spawn("api")
    monitored.service.wait_ready(2)
    monitoring.wait_resolved("ApiDown", "TargetDown")
    monitored.wait_sent("resolved", "ApiDown")


@pytest.mark.usefixtures("steady")
def test_every_sent_alert_is_resolved(monitored: MonitoredService) -> None:
    """Except suppressed alerts and those about this machine's processors and disks."""
    monitored.monitoring.wait_resolved("WorkerRestarting")
    monitored.skip_alerts(since=0)
    rules = yaml.safe_load(render("alertmanager.yml", MonitoringSettings.from_environment({})))
    suppressed = {
        name
        for rule in rules["inhibit_rules"]
        for name in re.findall(r"\w+", rule["target_matchers"][0].partition("=")[2])
    }
    machine = {"HighCpu", "HighMemory", "DiskFull"}
    sent_alerts = monitored.sent_alerts("firing") - suppressed - machine

    assert {"RedisDown", "DatabaseDown", "ApiDown"} <= sent_alerts
    monitored.wait_sent("resolved", *sent_alerts)
