"""Reads metrics as Prometheus does: scrape by scrape, with resets of counters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import requests
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

SCRAPE_SECONDS = 10.0

Series = tuple[str, frozenset[tuple[str, str]]]


def scrape(port: int) -> str:
    """Return the text of a page."""
    response = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=SCRAPE_SECONDS)
    assert response.status_code == 200, response.text
    return response.text


def families(text: str) -> list[Metric]:
    return list(text_string_to_metric_families(text))


def samples(text: str) -> dict[Series, float]:
    """Return each series of a page with its value; a series that occurs twice is a failure."""
    found: dict[Series, float] = {}
    for family in families(text):
        for sample in family.samples:
            series = (sample.name, frozenset(sample.labels.items()))
            assert series not in found, series
            found[series] = sample.value
    return found


def total(values: Mapping[Series, float], name: str, **labels: str) -> float:
    """Return the sum of a metric's series that have these labels."""
    wanted = set(labels.items())
    return sum(v for (n, have), v in values.items() if n == name and wanted <= have)


class Scraper:
    """Scrapes ports and sums the increases of counters, as the function `increase` does."""

    def __init__(self, *ports: int) -> None:
        self._ports = ports
        self._last: dict[int, dict[Series, float]] = {}
        self.gained: dict[Series, float] = defaultdict(float)

    def scrape(self) -> None:
        """Scrape all ports; skip a port that does not respond."""
        for port in self._ports:
            try:
                now = samples(scrape(port))
            except requests.ConnectionError:
                continue
            for series, value in now.items():
                before = self._last.get(port, {}).get(series, 0.0)
                self.gained[series] += value - before if value >= before else value
            self._last[port] = now

    def total(self, name: str, **labels: str) -> float:
        """Return the increase of the counters with this name and these labels, over all ports."""
        return total(self.gained, name, **labels)
