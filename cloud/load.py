"""How busy the service is, as its Prometheus knows it."""

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
class BusyAt:
    """From where on there is too much work, as in docker/kubernetes/components/keda."""

    interactive_seconds: float = 10.0
    bulk_seconds: float = 600.0
    gpu_ratio: float = 0.85


@dataclass(frozen=True, slots=True)
class ServiceLoad:
    """What waits, and how busy GPUs are; `gpu_ratio` is 0 where no worker's metrics are scraped."""

    interactive_seconds: float
    bulk_seconds: float
    gpu_ratio: float

    def over(self, limit: BusyAt) -> float:
        """Return how much of a limit is used, of the one that is used most."""
        return max(
            self.interactive_seconds / limit.interactive_seconds,
            self.bulk_seconds / limit.bulk_seconds,
            self.gpu_ratio / limit.gpu_ratio,
        )


def read_load(prometheus: str) -> ServiceLoad:
    """Ask Prometheus.

    Raises:
        CloudError: it does not answer, or knows no queue: nobody knows how busy the service is.
    """
    interactive, bulk = (
        _query(prometheus, f'max(bountycoder_queue_oldest_seconds{{queue="{queue}"}})')
        for queue in ("interactive", "bulk")
    )
    gpu = _query(prometheus, "avg(bountycoder_gpu_utilization_ratio)")
    if interactive is None or bulk is None:
        raise CloudError(f"{prometheus} does not know the service's queues")
    return ServiceLoad(interactive, bulk, gpu or 0.0)


def _query(prometheus: str, query: str) -> float | None:
    """Return the one value of a query, or `None` where there is none."""
    address = f"{prometheus.rstrip('/')}/api/v1/query?{urlencode({'query': query})}"
    try:
        with urlopen(address, timeout=TIMEOUT_SECONDS) as answer:
            return _value(json.loads(answer.read()))
    except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        raise CloudError(f"{prometheus} does not answer: {error}") from error


def _value(answer: Mapping[str, Any]) -> float | None:
    found = answer["data"]["result"]
    value = float(found[0]["value"][1]) if found else math.nan
    return value if math.isfinite(value) else None
