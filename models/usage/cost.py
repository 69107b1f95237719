"""The cost of usage by the prices of the settings."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from core.config.settings import Settings
from models.usage.report import UsageTotals

MILLION = Decimal(1_000_000)
COST_DIGITS = Decimal("0.000001")


def cost_digits(costs: Iterable[Decimal]) -> int:
    """Return the decimals to show costs with: two, or four if a cost is below a cent."""
    return 4 if any(0 < cost < Decimal("0.01") for cost in costs) else 2


def cost_of(sums: UsageTotals, settings: Settings) -> Decimal:
    """Return the price of the counted tokens; free cached completions count none."""
    cost = (
        sums.prompt_tokens * settings.price_per_million_prompt_tokens
        + sums.completion_tokens * settings.price_per_million_completion_tokens
    )
    return (cost / MILLION).quantize(COST_DIGITS)
