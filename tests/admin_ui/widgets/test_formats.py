"""Formats of numbers, durations and costs."""

from __future__ import annotations

from decimal import Decimal

import pytest

from admin_ui.widgets.formats import duration, money, short
from models.usage.cost import cost_digits


@pytest.mark.parametrize(
    ("value", "formatted"),
    [
        (0, "0"),
        (999, "999"),
        (999.6, "1k"),
        (1234, "1.23k"),
        (226_000, "226k"),
        (999_950, "1M"),
        (2_500_000_000, "2.5B"),
        (0.25, "0.25"),
    ],
)
def test_a_short_number_has_three_digits_and_a_letter(value: float, formatted: str) -> None:
    assert short(value) == formatted


@pytest.mark.parametrize(
    ("milliseconds", "formatted"),
    [
        (60_000, "1 min"),
        (75_000, "1 min 15 s"),
        (3_600_000, "1 h"),
        (86_400_000, "24 h"),
        (5_400_000, "1 h 30 min"),
    ],
)
def test_a_duration_omits_units_of_zero(milliseconds: int, formatted: str) -> None:
    assert duration(milliseconds) == formatted


def test_costs_of_one_column_have_the_same_number_of_decimals() -> None:
    usual = [Decimal("3.62"), Decimal("0.6844"), Decimal(0)]
    tiny = [Decimal("1234.5"), Decimal("0.0003")]

    assert [money(cost, cost_digits(usual)) for cost in usual] == ["3.62", "0.68", "0.00"]
    assert [money(cost, cost_digits(tiny)) for cost in tiny] == ["1,234.5000", "0.0003"]
