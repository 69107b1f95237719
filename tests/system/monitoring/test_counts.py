"""Sums of Prometheus are exact although processes are killed."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import create_engine, text

from tests.support.monitoring.monitored_service import MonitoredService
from tests.support.monitoring.monitoring import Monitoring
from tests.support.polling import wait_until

REQUESTS = 50
AT_ONCE = 12
COUNTED_SECONDS = 1.0
GENERATIONS = (
    "sum(bountycoder_http_request_duration_seconds_count"
    '{job="bountycoder-api", route="/api/llm/generate", status="200"})'
)
ENDED = 'sum(bountycoder_jobs_total{queue="interactive"})'
ALL_UP = "min(up{job=~'bountycoder-.+'})"
TOKENS = "sum(bountycoder_generation_tokens_total) + sum(bountycoder_prompt_tokens_total)"


def test_sums_are_exact_although_one_process_of_each_kind_is_killed(
    monitored: MonitoredService,
) -> None:
    """Two processes of the API and two workers; no counter is reset."""
    monitoring = monitored.monitoring
    wait_until(lambda: monitoring.value("sum(bountycoder_worker_ready)") == 2, 30)
    settle(monitored)
    before = read(monitoring, GENERATIONS, ENDED, TOKENS, absent=0.0)
    rows_before = rows(monitored)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        statuses = list(pool.map(lambda _: monitored.generate(), range(REQUESTS)))
        under_way = pool.map(lambda _: monitored.generate(), range(REQUESTS))
        wait_until(lambda: monitored.running() >= AT_ONCE / 2, 20)
        monitored.end_worker(0, signal.SIGKILL)
        monitored.service.kill_api_process()
        monitored.start_worker(0)
        statuses += under_way
        monitored.service.wait_ready(2)
        statuses += pool.map(lambda _: monitored.generate(), range(REQUESTS))
    settle(monitored)

    succeeded, broken = statuses.count(200), statuses.count(0)
    ended, tokens = (now - then for now, then in zip(rows(monitored), rows_before, strict=True))
    gained = {query: now - before[query] for query, now in read(monitoring, *before).items()}
    assert set(statuses) <= {200, 0}
    assert succeeded >= 2 * REQUESTS
    assert gained[ENDED] == ended
    assert gained[TOKENS] == tokens
    assert succeeded <= gained[GENERATIONS] <= succeeded + broken
    # A counter that started at zero a second time would be a reset.
    assert monitoring.value(f"sum(resets({GENERATIONS.removeprefix('sum(')[:-1]}[2m]))") == 0


def read(monitoring: Monitoring, *queries: str, absent: float | None = None) -> dict[str, float]:
    """Return the values of queries; a failed scrape under load hides those of a target briefly.

    Args:
        absent: the value of series that do not exist while all targets are up.
    """
    values: dict[str, float | None] = {}

    def are_complete() -> bool:
        was_up = monitoring.value(ALL_UP)
        found = {query: monitoring.value(query) for query in queries}
        values.update({q: absent if value is None else value for q, value in found.items()})
        return was_up == monitoring.value(ALL_UP) == 1 and None not in values.values()

    wait_until(are_complete, 20)
    return {query: value for query, value in values.items() if value is not None}


def settle(monitored: MonitoredService) -> None:
    """Wait until all jobs have ended and Prometheus has scraped their counters."""
    engine = create_engine(monitored.postgres.url)
    with engine.connect() as connection:
        query = text("select count(*) from jobs where finished_at is null")
        wait_until(lambda: connection.scalar(query) == 0, 30)
        connection.rollback()
    engine.dispose()
    at, monitoring = time.time(), monitored.monitoring
    # `up` has the time of the last scrape, even of one that failed.
    scraped = "min(timestamp(up{job=~'bountycoder-.+'} == 1))"
    # A worker counts a job a moment after it commits the end.
    wait_until(lambda: (monitoring.value(scraped) or 0.0) > at + COUNTED_SECONDS, 20)
    wait_until(lambda: monitoring.value(ALL_UP) == 1, 20)


def rows(monitored: MonitoredService) -> tuple[int, int]:
    """Return how many interactive jobs ended, and the tokens of all."""
    engine = create_engine(monitored.postgres.url)
    with engine.connect() as connection:
        ended = connection.scalar(
            text("select count(*) from jobs where finished_at is not null and queue='interactive'")
        )
        tokens = connection.scalar(
            text("select coalesce(sum(prompt_tokens + completion_tokens), 0) from usage")
        )
    engine.dispose()
    return int(ended or 0), int(tokens or 0)
