"""What was used: by whom, when, and what it costs."""

from __future__ import annotations

from datetime import timedelta
from itertools import chain
from typing import Any

from flask import Blueprint, Response, abort, jsonify, render_template, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.services import services
from admin_ui.usage.export import show_group, usage_csv
from admin_ui.usage.query import (
    CHOICES,
    HOURLY_DAYS,
    UsageQuery,
    default_sort,
    groups_for,
    read_usage_query,
)
from admin_ui.web.access import signed_in, viewer
from admin_ui.web.page import database, present_time
from admin_ui.widgets.chart_data import Chart, chart_of_sums
from admin_ui.widgets.pager import ListPage, read_page_number
from models.database.pagination import Numbered
from models.usage.cost import cost_digits, cost_of
from models.usage.ranges import DAY, HOUR, WantedUsage
from models.usage.report import UsageGroup, UsageSums, list_usage, page_usage, sum_usage

blueprint = Blueprint("usage", __name__, url_prefix="/usage")

NOTHING: Numbered[UsageSums] = Numbered([], 0)
CHARTS = {
    Chart.TOKENS: "Tokens",
    Chart.REQUESTS: "Requests",
    Chart.TIMES: "Response time",
}


@blueprint.get("")
@signed_in
def index() -> ResponseReturnValue:
    now = present_time()
    query = read_usage_query(request.args, database(), viewer(), now)
    settings = services().settings
    has_prices = bool(
        settings.price_per_million_prompt_tokens or settings.price_per_million_completion_tokens
    )
    page = ListPage(query.order, query.is_descending, read_page_number())
    totals, found = UsageSums(), NOTHING
    if not query.faults:
        wanted = query.wanted(now)
        totals = sum_usage(database(), wanted)
        found = page_usage(
            database(),
            wanted,
            query.by,
            order=query.order,
            is_descending=query.is_descending,
            offset=page.offset,
            limit=page.limit,
        )

    def address(**changes: Any) -> str:
        return url_for("usage.index", **{**query.arguments, **changes})

    def sorted_by(sort: str) -> str:
        return address(sort=None if sort == default_sort(query.by) else sort)

    shown = render_template(
        "usage/index.html",
        query=query,
        totals=totals,
        found=found,
        page=page,
        groups=groups_for(viewer()),
        choices=CHOICES,
        charts=CHARTS,
        cost=(lambda sums: cost_of(sums, settings)) if has_prices else None,
        digits=cost_digits([cost_of(sums, settings) for sums in found.rows]),
        currency=settings.currency,
        model_name=settings.model_name,
        address=address,
        sorted_by=sorted_by,
        into=lambda sums: address(**_into(query, sums)),
    )
    return shown, 400 if query.faults else 200


@blueprint.get("/series/<chart>")
@signed_in
def series(chart: str) -> ResponseReturnValue:
    """What one chart of the page draws: the hours of a few days, or days."""
    now = present_time()
    query = read_usage_query(request.args, database(), viewer(), now)
    if chart not in CHARTS or query.faults:
        abort(404)
    wanted = query.wanted(now)
    step, by = HOUR, UsageGroup.HOUR
    if wanted.until - wanted.since > HOURLY_DAYS * DAY:
        step, by = DAY, UsageGroup.DAY
    return jsonify(chart_of_sums(Chart(chart), _all_of(wanted, step, by), step) | {"zone": "UTC"})


@blueprint.get("/usage.csv")
@signed_in
def download() -> ResponseReturnValue:
    """The report's groups, all of them, under the same filters and in the same order."""
    now = present_time()
    query = read_usage_query(request.args, database(), viewer(), now)
    if query.faults:
        abort(404)
    days = f"{query.time.first}-to-{query.time.last or now.date()}"
    name = f"usage-by-{query.by}-{days}.csv"
    wanted, parts = query.wanted(now), services()
    lines = usage_csv(parts.sessions, wanted, query, parts.settings)
    return Response(
        chain([next(lines)], lines),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _all_of(wanted: WantedUsage, step: timedelta, by: UsageGroup) -> list[UsageSums]:
    """Return every hour or day of a time, also those without use."""
    count = -(-(wanted.until - wanted.since) // step)
    begins = [wanted.since + n * step for n in range(count)]
    found = {
        sums.group: sums
        for sums in list_usage(database(), wanted, by, after=None, limit=max(1, count))
    }
    return [found.get(at) or UsageSums(group=at) for at in begins]


def _into(query: UsageQuery, sums: UsageSums) -> dict[str, Any]:
    """Return what changes in the address when somebody looks into a group."""
    group = show_group(query.by, sums.group)
    fresh = {"sort": None}
    if query.by is UsageGroup.USER:
        return {"user": group, "by": "key", **fresh}
    if query.by is UsageGroup.KEY:
        return {"key": group, "by": "day", **fresh}
    if query.by is UsageGroup.MODEL:
        return {"model": group, "by": "day", **fresh}
    day = group[:10]
    by = "hour" if query.by is UsageGroup.DAY else "key"
    return {"from": day, "to": day, "range": None, "by": by, **fresh}
