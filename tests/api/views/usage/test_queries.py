"""Queries for a report of usage: the range of time, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.factories.usage import HOUR
from tests.support.http.usage_reader import UsageReader


def test_days_of_another_time_zone_are_counted_once(heavy_user: UsageReader) -> None:
    days = [
        heavy_user.get(
            f"from=2026-{first}T13:00:00%2B01:00&to=2026-{last}T13:00:00%2B01:00"
        ).get_json()
        for first, last in (("10-31", "11-01"), ("11-01", "11-02"))
    ]

    assert [day["totals"]["requests"] for day in days] == [0, 5]
    assert days[0]["to"] == days[1]["from"] == "2026-11-01T12:00:00.000Z"


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("from=2026-11-01T00:00:00%2B05:30&to=2026-11-02T00:00:00%2B05:30", "to"),
        ("from=2026-11-01T12:59:59Z&to=2026-11-01T14:00:00Z", "from"),
        ("to=2026-11-01T14:00:01Z", "to"),
    ],
)
def test_a_time_that_is_no_whole_hour_is_refused(
    heavy_user: UsageReader, query: str, param: str
) -> None:
    response = heavy_user.get(query)

    assert response.status_code == 400
    error = response.get_json()["error"]
    assert error["param"] == param
    assert error["message"].startswith(f"{param} must be a whole hour in UTC")


def test_the_range_of_one_day_ends_with_the_next_day(heavy_user: UsageReader) -> None:
    refused = heavy_user.get("from=2026-11-01&to=2026-11-01")

    assert refused.status_code == 400
    message = refused.get_json()["error"]["message"]
    assert message == "from must be before to"
    assert heavy_user.get("from=2026-11-01&to=2026-11-02").get_json()["totals"]["requests"] == 5


def test_the_default_range_is_the_last_thirty_days(heavy_user: UsageReader) -> None:
    report = heavy_user.get().get_json()

    began, ends = (datetime.fromisoformat(report[name]) for name in ("from", "to"))
    assert timedelta(0) <= ends - datetime.now(UTC) <= HOUR
    assert timedelta(days=30) <= ends - began <= timedelta(days=30) + HOUR
    assert report["groupBy"] == "day"


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("from=soon", "from"),
        ("from=2026-11-02&to=2026-11-01", "from"),
        ("from=2024-01-01&to=2026-01-01", "from"),
        ("to=9999-12-31T23:59:59Z", "to"),
        ("groupBy=email", "groupBy"),
        ("limit=1001", "limit"),
        ("limit=0", "limit"),
        ("keyId=nonsense", "keyId"),
        ("userId=key_1", "userId"),
        ("model=%00", "model"),
        ("groupBy=key&after=nonsense", "after"),
        ("groupBy=hour&after=nonsense", "after"),
    ],
)
def test_a_wrong_query_is_refused(heavy_user: UsageReader, query: str, param: str) -> None:
    response = heavy_user.get(query)

    assert response.status_code == 400
    assert response.get_json()["error"]["param"] == param
