"""Read the service's load from its Prometheus."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from cloud.rest import CloudError

TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Load above which more workers are needed, as in docker/kubernetes/components/keda.

    Attributes:
        interactive_seconds: wait of the oldest interactive job.
        bulk_seconds: wait of the oldest bulk job.
        gpu_ratio: mean utilisation of GPUs.
    """

    interactive_seconds: float = 10.0
    bulk_seconds: float = 600.0
    gpu_ratio: float = 0.85


@dataclass(frozen=True, slots=True)
class ServiceLoad:
    """Queue waits and GPU utilisation; `gpu_ratio` is 0 if no worker's metrics are scraped."""

    interactive_seconds: float
    bulk_seconds: float
    gpu_ratio: float

    def over(self, limit: Thresholds) -> float:
        """Return the highest ratio of a value to its threshold; above 1 is overload."""
        return max(
            self.interactive_seconds / limit.interactive_seconds,
            self.bulk_seconds / limit.bulk_seconds,
            self.gpu_ratio / limit.gpu_ratio,
        )


def read_load(prometheus: str) -> ServiceLoad:
    """Query Prometheus.

    Raises:
        CloudError: Prometheus does not respond, or has no queue metrics: the load is unknown.
    """
    interactive, bulk = (
        _query(prometheus, f'max(bountycoder_queue_oldest_seconds{{queue="{queue}"}})')
        for queue in ("interactive", "bulk")
    )
    gpu = _query(prometheus, "avg(bountycoder_gpu_utilization_ratio)")
    if interactive is None or bulk is None:
        raise CloudError(f"{prometheus} has no metrics of the service's queues")
    return ServiceLoad(interactive, bulk, gpu or 0.0)


def _query(prometheus: str, query: str) -> float | None:
    """Return the only value of a query, or `None` if there is none."""
    address = f"{prometheus.rstrip('/')}/api/v1/query?{urlencode({'query': query})}"
    try:
        with urlopen(address, timeout=TIMEOUT_SECONDS) as response:
            return _value(json.loads(response.read()))
    except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        raise CloudError(f"{prometheus} does not respond: {error}") from error


def _value(response: Mapping[str, Any]) -> float | None:
    found = response["data"]["result"]
    value = float(found[0]["value"][1]) if found else math.nan
    return value if math.isfinite(value) else None
