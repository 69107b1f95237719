"""Schemas of usage reports."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field, NonNegativeInt

from api.responses.base import CamelCaseSchema, PageSchema, Share
from models.usage.report import UsageGroup


class SumsSchema(CamelCaseSchema):
    """Sums over a range of time.

    Attributes:
        success_rate: null if there was no request.
        mean_ms: the mean time from the request to its end.
        p95_ms: the 95th percentile of that time.
        cost: the cost of the tokens, in the report's currency.
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
        group: an id, the name of a model, or the time of the group's begin.
        name: the name of the key, or the email of the user.
    """

    group: str
    name: str


class UsageReportSchema(PageSchema):
    """Usage of whole hours, in groups.

    Attributes:
        totals: the sums of all groups, the same on every page.
    """

    from_: Annotated[datetime, Field(alias="from")]
    to: datetime
    group_by: UsageGroup
    currency: str
    totals: SumsSchema
    data: list[GroupSumsSchema]
