"""What was used and what it costs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field, NonNegativeInt

from api.responses.base import CamelCaseSchema, PageSchema, Share
from models.usage.report import UsageGroup


class SumsSchema(CamelCaseSchema):
    """Sums over a time.

    Attributes:
        success_rate: null where there was no request.
        mean_ms: the mean time from the request to its end.
        p95_ms: the time that 95 of 100 did not exceed.
        cost: of the tokens, in the report's currency.
    """

    requests: NonNegativeInt
    succeeded: NonNegativeInt
    success_rate: Share | None
    prompt_tokens: NonNegativeInt
    completion_tokens: NonNegativeInt
    cached_tokens: NonNegativeInt
    total_tokens: NonNegativeInt
    mean_ms: float | None
    p95_ms: float | None
    cost: float


class GroupSumsSchema(SumsSchema):
    """Sums of one group.

    Attributes:
        group: an id, a model's name, or when the group begins.
        name: of the key, or the user's email.
    """

    group: str
    name: str


class UsageReportSchema(PageSchema):
    """Usage of whole hours, in groups.

    Attributes:
        totals: of all groups, on every page.
    """

    from_: Annotated[datetime, Field(alias="from")]
    to: datetime
    group_by: UsageGroup
    currency: str
    totals: SumsSchema
    data: list[GroupSumsSchema]
