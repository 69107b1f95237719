"""What was used and what it costs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from api.responses.shown import Count, Page, Share, Shown
from models.usage.report import UsageGroup


class ShownSums(Shown):
    """Sums over a time.

    Attributes:
        success_rate: null where there was no request.
        mean_ms: the mean time from the request to its end.
        p95_ms: the time that 95 of 100 did not exceed.
        cost: of the tokens, in the report's currency.
    """

    requests: Count
    succeeded: Count
    success_rate: Share | None
    prompt_tokens: Count
    completion_tokens: Count
    cached_tokens: Count
    total_tokens: Count
    mean_ms: float | None
    p95_ms: float | None
    cost: float


class GroupSums(ShownSums):
    """Sums of one group.

    Attributes:
        group: an id, a model's name, or when the group begins.
        name: of the key, or the user's email.
    """

    group: str
    name: str


class UsageReport(Page):
    """Usage of whole hours, in groups.

    Attributes:
        totals: of all groups, on every page.
    """

    from_: Annotated[datetime, Field(alias="from")]
    to: datetime
    group_by: UsageGroup
    currency: str
    totals: ShownSums
    data: list[GroupSums]
