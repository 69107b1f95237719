"""The ports of the metrics that `bountycoder up` serves."""

from __future__ import annotations

import pytest

from cli.up.metrics_ports import MetricsPorts


def test_ports_of_the_environment_are_used() -> None:
    environment = {
        "API_METRICS_PORT": "9101",
        "ADMIN_METRICS_PORT": "0",
        "WORKER_METRICS_PORT": "9103",
    }

    ports = MetricsPorts.choose(environment, workers=2)

    assert ports == MetricsPorts(api=9101, admin=0, workers=(9103, 9104))


@pytest.mark.parametrize("text", ("", "none", "²", "9" * 5000))
def test_a_port_that_is_no_number_is_a_free_one(text: str) -> None:
    ports = MetricsPorts.choose({"API_METRICS_PORT": text}, workers=1)

    assert ports.api > 0
