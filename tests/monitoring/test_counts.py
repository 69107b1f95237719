"""What Prometheus adds up is what happened, though processes are killed."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
from sqlalchemy import create_engine, text

from tests.monitoring.instance import Instance
from tests.monitoring.watch import Watch
from tests.service import wait_until

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


def test_sums_are_what_was_sent_though_one_of_each_is_killed(instance: Instance) -> None:
    """Two processes of the API, two workers; the counters go on through all of it."""
    watch = instance.watch
    wait_until(lambda: watch.value("sum(bountycoder_worker_ready)") == 2, 30)
    settle(instance)
    before = read(watch, GENERATIONS, ENDED, TOKENS)
    rows_before = rows(instance)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        statuses = list(pool.map(lambda _: instance.ask(), range(REQUESTS)))
        under_way = pool.map(lambda _: instance.ask(), range(REQUESTS))
        wait_until(lambda: instance.running() >= AT_ONCE / 2, 20)
        instance.kill_worker(0)
        kill_api_process(instance)
        instance.start_worker(0)
        statuses += under_way
        instance.service.wait_ready(2)
        statuses += pool.map(lambda _: instance.ask(), range(REQUESTS))
    settle(instance)

    answered, broken = statuses.count(200), statuses.count(0)
    ended, tokens = (now - then for now, then in zip(rows(instance), rows_before, strict=True))
    gained = {query: value - before[query] for query, value in read(watch, *before).items()}
    assert set(statuses) <= {200, 0}
    assert answered >= 2 * REQUESTS
    assert gained[ENDED] == ended
    assert gained[TOKENS] == tokens
    assert answered <= gained[GENERATIONS] <= answered + broken
    # A counter that began anew would be a reset.
    assert watch.value(f"sum(resets({GENERATIONS.removeprefix('sum(')[:-1]}[2m]))") == 0


def read(watch: Watch, *queries: str) -> dict[str, float]:
    """Return the values of queries while every scrape works: one that failed hides a part."""
    values: dict[str, float] = {}

    def is_whole() -> bool:
        was_up = watch.value(ALL_UP)
        values.update({query: watch.value(query) or 0.0 for query in queries})
        return was_up == watch.value(ALL_UP) == 1

    wait_until(is_whole, 20)
    return values


def settle(instance: Instance) -> None:
    """Wait until nothing is under way, and Prometheus has seen all of it."""
    engine = create_engine(instance.postgres.url)
    with engine.connect() as connection:
        query = text("select count(*) from jobs where finished_at is null")
        wait_until(lambda: connection.scalar(query) == 0, 30)
        connection.rollback()
    engine.dispose()
    at, watch = time.time(), instance.watch
    # `up` has the time of the last scrape; one that failed shows no counters.
    scraped = "min(timestamp(up{job=~'bountycoder-.+'} == 1))"
    # A job is counted a moment after its end was committed.
    wait_until(lambda: (watch.value(scraped) or 0.0) > at + COUNTED_SECONDS, 20)
    wait_until(lambda: watch.value(ALL_UP) == 1, 20)


def rows(instance: Instance) -> tuple[int, int]:
    """Return how many interactive jobs ended, and the tokens of all."""
    engine = create_engine(instance.postgres.url)
    with engine.connect() as connection:
        ended = connection.scalar(
            text("select count(*) from jobs where finished_at is not null and queue='interactive'")
        )
        tokens = connection.scalar(
            text("select coalesce(sum(prompt_tokens + completion_tokens), 0) from usage")
        )
    engine.dispose()
    return int(ended or 0), int(tokens or 0)


def kill_api_process(instance: Instance) -> None:
    assert instance.service.api is not None
    psutil.Process(instance.service.api.pid).children()[0].send_signal(signal.SIGKILL)
