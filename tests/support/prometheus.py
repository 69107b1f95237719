"""What a Prometheus would make of our metrics: one scrape after the other, resets understood."""

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
    answer = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=SCRAPE_SECONDS)
    assert answer.status_code == 200, answer.text
    return answer.text


def families(text: str) -> list[Metric]:
    return list(text_string_to_metric_families(text))


def samples(text: str) -> dict[Series, float]:
    """Return each series of a page with its value; each is there once."""
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
    """Scrapes addresses and adds up what counters gained, as `increase` does."""

    def __init__(self, *ports: int) -> None:
        self._ports = ports
        self._last: dict[int, dict[Series, float]] = {}
        self.gained: dict[Series, float] = defaultdict(float)

    def scrape(self) -> None:
        """Scrape all addresses; one that does not answer is left out."""
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
        """Return what the counters of this name and these labels gained, over all addresses."""
        return total(self.gained, name, **labels)
