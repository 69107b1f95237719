"""Counts durations in buckets, so that percentiles of any period are read from sums.

The bounds grow by one fixed factor, as in DDSketch (Masson, Rim and Lee, VLDB 2019). A percentile
is within `RELATIVE_ERROR` of the true duration, and exact below 19 ms. Counts of several rows are
merged by addition. Bounds are whole milliseconds, so that PostgreSQL's `width_bucket` and
`bucket_of` always agree.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping

RELATIVE_ERROR = 0.05
#: Longer durations fall into the last bucket.
LONGEST_MS = 30 * 24 * 3600 * 1000


def _bounds() -> tuple[int, ...]:
    growth = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
    bounds = [1]
    while bounds[-1] < LONGEST_MS:
        bounds.append(max(bounds[-1] + 1, math.floor(bounds[-1] * growth)))
    return tuple(bounds)


#: Bucket `i` holds durations from `BOUNDS[i - 1]` to below `BOUNDS[i]`; bucket 0 those below 1 ms.
BOUNDS = _bounds()


def bucket_of(duration_ms: int) -> int:
    """Return the bucket of a duration in milliseconds."""
    return bisect_right(BOUNDS, duration_ms)


def duration_of(bucket: int) -> float:
    """Return the duration in milliseconds that represents a bucket, within `RELATIVE_ERROR`."""
    if bucket == 0:
        return 0.0
    low = BOUNDS[bucket - 1]
    high = BOUNDS[bucket] - 1 if bucket < len(BOUNDS) else low
    return 2 * low * high / (low + high)


def percentile(counts: Mapping[int, int], share: float) -> float | None:
    """Return the duration in milliseconds that `share` (0 to 1) do not exceed; `None` if empty."""
    total = sum(counts.values())
    rank, seen = math.ceil(share * total), 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if counts[bucket] and seen >= rank:
            return duration_of(bucket)
    return None
