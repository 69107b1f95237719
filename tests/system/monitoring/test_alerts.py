"""Alerts fire when their fault is there, are told, and are taken back when it is over."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import psycopg2
import pytest
import redis
import requests
import yaml

from cli.monitoring.rendering import render
from cli.monitoring.settings import MonitoringSettings
from tests.support.monitoring.instance import SLOW_PACE, Instance, repeating
from tests.support.polling import wait_until

YEAR, WEEK = 365.0, 7.0
#: Beyond `ALERT_CONNECTIONS_RATIO` of PostgreSQL's hundred.
CONNECTIONS = 45
#: Beyond `ALERT_API_SECONDS`, and below the time that a statement may wait for a lock.
LOCKED_SECONDS = 2.5
LONG_PROMPT = "word " * 4000
LONGER = "word " * 20
#: Of workers: eight callers wait for three rounds of a second each.
SLOW = {"echo_tokens_per_second": SLOW_PACE, "worker_jobs": 1, "max_attempts": 1}


@pytest.fixture
def steady(instance: Instance) -> Iterator[None]:
    """Customers who ask all the time, while all is well but for the fault of the test."""
    instance.write_backup_metric(time.time() + 3600)
    with instance.serving_tls(days=YEAR), repeating(instance.ask, threads=2):
        yield


def test_faults_that_follow_from_nothing_else(instance: Instance) -> None:
    """Each of these parts is watched by itself: all are broken at once, to spare time."""
    watch = instance.watch
    impatient = {"x-api-key": instance.service.make_key(rateLimit=2)["secret"]}
    faults = {
        "CertificateExpiring": lambda: instance.serving_tls(days=WEEK),
        "RateLimitViolations": lambda: repeating(lambda: instance.ask(headers=impatient)),
        "HighTokenUsage": lambda: repeating(lambda: instance.ask(prompt=LONG_PROMPT), threads=2),
        "HighApiLatency": lambda: slow_calls(instance),
        "DatabaseConnections": lambda: many_connections(instance),
        "RedisMemory": lambda: little_memory(instance),
    }
    wait = ("NoBackup", "EndpointDown")  # there never was a backup, nothing answers the probe

    instance.write_backup_metric(None)
    watch.wait_firing(*wait)
    instance.write_backup_metric(time.time() - 86400)
    with ExitStack() as stack:
        for break_it in faults.values():
            stack.enter_context(break_it())
        watch.wait_firing(*faults, "BackupTooOld")
        watch.wait_resolved(*wait)
    instance.write_backup_metric(time.time() + 3600)
    with instance.serving_tls(days=YEAR):
        watch.wait_resolved(*faults, "BackupTooOld")


@contextmanager
def slow_calls(instance: Instance) -> Iterator[None]:
    """Let calls wait for a table that somebody locks again and again."""
    headers = instance.service.sign_in_admin()

    def look() -> None:
        requests.get(f"{instance.service.url}/api/admin/activity", headers=headers, timeout=30)

    def lock() -> None:
        with closing(connect(instance)) as connection, connection.cursor() as cursor:
            cursor.execute("lock table audit_log in access exclusive mode")
            cursor.execute("select pg_sleep(%s)", (LOCKED_SECONDS,))

    with repeating(look, threads=4), repeating(lock):
        yield


@contextmanager
def many_connections(instance: Instance) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(closing(connect(instance)))
        yield


@contextmanager
def little_memory(instance: Instance) -> Iterator[None]:
    """Let Redis have used more than `ALERT_REDIS_MEMORY_RATIO` of its memory."""
    with closing(redis.Redis.from_url(instance.valkey.url)) as client:
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", round(used * 1.7))
        try:
            yield
        finally:
            client.config_set("maxmemory", 0)


def connect(instance: Instance) -> psycopg2.extensions.connection:
    return psycopg2.connect(instance.postgres.url.replace("+psycopg2", ""))


@pytest.mark.usefixtures("steady")
def test_without_redis_errors_are_told_once(instance: Instance) -> None:
    watch = instance.watch
    instance.skip_alerts()

    instance.valkey.stop()
    watch.wait_firing("RedisDown", "HighErrorRate")
    watch.wait_suppressed("HighErrorRate", by="RedisDown")
    instance.wait_sent("firing", "RedisDown")
    instance.valkey.start()
    watch.wait_resolved("RedisDown", "HighErrorRate")
    instance.wait_sent("resolved", "RedisDown")


@pytest.mark.usefixtures("steady")
def test_without_a_database_errors_are_told_once(instance: Instance) -> None:
    watch = instance.watch
    instance.skip_alerts()

    instance.postgres.stop()
    watch.wait_firing("DatabaseDown", "HighErrorRate")
    watch.wait_suppressed("HighErrorRate", by="DatabaseDown")
    instance.wait_sent("firing", "DatabaseDown")
    instance.postgres.spawn()
    instance.postgres.wait_ready()
    watch.wait_resolved("DatabaseDown", "HighErrorRate")
    instance.wait_sent("resolved", "DatabaseDown")


def test_without_workers_the_line_is_told_as_that(instance: Instance) -> None:
    watch, follows = instance.watch, ("QueueOld", "Overloaded")
    instance.skip_alerts()

    for number in (0, 1):
        instance.kill_worker(number)
    with repeating(lambda: post_job(instance)):
        watch.wait_firing("NoWorkers", "TargetDown", "HighErrorRate", *follows)
        for name in follows:
            watch.wait_suppressed(name, by="NoWorkers")
    instance.wait_sent("firing", "NoWorkers", "HighErrorRate")
    for number in (0, 1):
        instance.start_worker(number, **SLOW)
    watch.wait_resolved("NoWorkers", "HighErrorRate", *follows)
    instance.wait_sent("resolved", "NoWorkers", "HighErrorRate")


def test_slow_workers_and_those_that_lose_jobs_are_told(instance: Instance) -> None:
    """They are slow, take one job at a time, and have no second attempt: see `SLOW`."""
    watch = instance.watch
    slow = ("SlowGeneration", "HighTimeToFirstToken")
    instance.skip_alerts()

    with repeating(lambda: instance.ask(prompt=LONGER, maxTokens=16), threads=8):
        watch.wait_firing(*slow)
        wait_until(lambda: instance.running() == 2, 20)  # one of each: the killed one's is lost
        instance.kill_worker(0)
        watch.wait_firing("JobsFail")
        instance.wait_sent("firing", *slow, "JobsFail")
    instance.start_worker(0)
    # Without any worker the others would be silenced, and their end too.
    wait_until(lambda: watch.value("sum(bountycoder_worker_ready)") == 2, 60)
    instance.stop_worker(1)
    instance.start_worker(1)
    watch.wait_firing("WorkerRestarting")
    with repeating(instance.ask, threads=2):
        watch.wait_resolved(*slow, "JobsFail", "TargetDown")
    instance.wait_sent("resolved", *slow, "JobsFail")


def post_job(instance: Instance) -> None:
    requests.post(
        f"{instance.service.url}/api/llm/jobs",
        json={"prompt": "one two three", "maxTokens": 8},
        headers=instance.headers,
        timeout=30,
    )


@pytest.mark.usefixtures("steady")
def test_without_an_api_its_target_is_not_told_besides(instance: Instance) -> None:
    watch = instance.watch
    instance.skip_alerts()

    instance.kill_api()
    watch.wait_firing("ApiDown", "TargetDown")
    watch.wait_suppressed("TargetDown", by="ApiDown")
    instance.wait_sent("firing", "ApiDown")
    instance.service.api = instance.service.spawn("api")
    instance.service.wait_ready(2)
    watch.wait_resolved("ApiDown", "TargetDown")
    instance.wait_sent("resolved", "ApiDown")


@pytest.mark.usefixtures("steady")
def test_whatever_was_told_is_taken_back(instance: Instance) -> None:
    """But for what was silenced meanwhile, and for this machine's own processors and disks."""
    instance.watch.wait_resolved("WorkerRestarting")
    instance.skip_alerts(since=0)
    rules = yaml.safe_load(render("alertmanager.yml", MonitoringSettings.from_environment({})))
    silenced = {
        name
        for rule in rules["inhibit_rules"]
        for name in re.findall(r"\w+", rule["target_matchers"][0].partition("=")[2])
    }
    sent_alerts = instance.sent_alerts("firing") - silenced - {"HighCpu", "HighMemory", "DiskFull"}

    assert {"RedisDown", "DatabaseDown", "ApiDown"} <= sent_alerts
    instance.wait_sent("resolved", *sent_alerts)
