from __future__ import annotations

import math
import random

import pytest

from core.histogram import (
    BOUNDS,
    LONGEST_MS,
    RELATIVE_ERROR,
    bucket_of,
    duration_of,
    percentile,
)


def counted(durations: list[int]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for duration in durations:
        counts[bucket_of(duration)] = counts.get(bucket_of(duration), 0) + 1
    return counts


def test_no_duration_is_further_from_its_bucket_than_the_error() -> None:
    for duration in [*range(5000), *range(5000, LONGEST_MS, 7_777_777), *BOUNDS[:-1]]:
        found = duration_of(bucket_of(duration))

        assert abs(found - duration) <= RELATIVE_ERROR * duration + 1e-9, duration


def test_short_durations_are_exact() -> None:
    assert [duration_of(bucket_of(ms)) for ms in range(19)] == list(range(19))


def test_all_longest_durations_share_the_last_bucket() -> None:
    assert bucket_of(10 * LONGEST_MS) == bucket_of(BOUNDS[-1]) == len(BOUNDS)
    assert duration_of(len(BOUNDS)) == BOUNDS[-1]


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99, 1.0])
@pytest.mark.parametrize("n", [1, 19, 20, 1000])
def test_a_percentile_is_within_the_error_of_the_true_one(share: float, n: int) -> None:
    draw = random.Random(n)
    durations = sorted(round(draw.lognormvariate(7, 1.5)) for _ in range(n))
    true = durations[math.ceil(share * n) - 1]

    found = percentile(counted(durations), share)

    assert found is not None
    assert abs(found - true) <= RELATIVE_ERROR * true + 1e-9


def test_no_durations_have_no_percentile() -> None:
    assert percentile({}, 0.95) is None
    assert percentile({3: 0}, 0.95) is None
