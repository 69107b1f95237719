"""The throughput of a worker counts only the time in which all of its slots are used."""

from __future__ import annotations

import pytest

from worker.jobs.throughput import HALF_LIFE_SECONDS, MIN_JOBS, JobThroughput


def test_the_throughput_of_a_full_worker_is_its_ended_jobs_per_second() -> None:
    throughput = JobThroughput()

    measured = [throughput.measure(float(2 * i), ended=6 * i, is_full=True) for i in range(10)]

    assert measured[0] == 0.0
    assert measured[1:] == pytest.approx([3.0] * 9)


def test_an_idle_worker_has_no_throughput() -> None:
    throughput = JobThroughput()

    measured = [throughput.measure(float(2 * i), ended=i, is_full=i % 2 == 0) for i in range(10)]

    assert measured == [0.0] * 10


def test_idle_time_does_not_lower_the_measured_throughput() -> None:
    throughput = JobThroughput()
    for i in range(5):
        throughput.measure(float(2 * i), ended=6 * i, is_full=True)

    throughput.measure(10.0, ended=24, is_full=False)

    assert throughput.measure(500.0, ended=24, is_full=False) == pytest.approx(3.0)


def test_fewer_jobs_than_the_minimum_give_no_throughput() -> None:
    throughput = JobThroughput()
    throughput.measure(0.0, ended=0, is_full=True)

    assert throughput.measure(2.0, ended=MIN_JOBS - 1, is_full=True) == 0.0
    assert throughput.measure(4.0, ended=MIN_JOBS, is_full=True) > 0


def test_a_changed_throughput_dominates_after_some_half_lives() -> None:
    throughput = JobThroughput()
    now = ended = 0
    for per_second, seconds in ((10, 600), (1, round(5 * HALF_LIFE_SECONDS))):
        for _ in range(seconds):
            now, ended = now + 1, ended + per_second
            measured = throughput.measure(float(now), ended=ended, is_full=True)

    assert 1 < measured < 1.5
