"""The usage report: sums, charts, groups, cost and CSV."""

from __future__ import annotations

from datetime import timedelta
from itertools import chain
from typing import Any

from flask import Blueprint, Response, abort, jsonify, render_template, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.services import services
from admin_ui.usage.export import group_text, usage_csv
from admin_ui.usage.query import (
    HOURLY_DAYS,
    PRESETS,
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
from models.usage.ranges import DAY, HOUR, UsageScope
from models.usage.report import UsageGroup, UsageTotals, list_usage, page_usage, sum_usage

blueprint = Blueprint("usage", __name__, url_prefix="/usage")

NO_ROWS: Numbered[UsageTotals] = Numbered([], 0)
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
    totals, found = UsageTotals(), NO_ROWS
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

    def list_url(**changes: Any) -> str:
        return url_for("usage.index", **{**query.arguments, **changes})

    def sorted_url(sort: str) -> str:
        return list_url(sort=None if sort == default_sort(query.by) else sort)

    html = render_template(
        "usage/index.html",
        query=query,
        totals=totals,
        found=found,
        page=page,
        groups=groups_for(viewer()),
        presets=PRESETS,
        charts=CHARTS,
        cost=(lambda sums: cost_of(sums, settings)) if has_prices else None,
        digits=cost_digits([cost_of(sums, settings) for sums in found.rows]),
        currency=settings.currency,
        model_name=settings.model_name,
        list_url=list_url,
        sorted_url=sorted_url,
        details_url=lambda sums: list_url(**_details_of(query, sums)),
    )
    return html, 400 if query.faults else 200


@blueprint.get("/series/<chart>")
@signed_in
def series(chart: str) -> ResponseReturnValue:
    """Return the series of one chart: hours for a range of a few days, else days."""
    now = present_time()
    query = read_usage_query(request.args, database(), viewer(), now)
    if chart not in CHARTS or query.faults:
        abort(404)
    wanted = query.wanted(now)
    step, by = HOUR, UsageGroup.HOUR
    if wanted.until - wanted.since > HOURLY_DAYS * DAY:
        step, by = DAY, UsageGroup.DAY
    return jsonify(
        chart_of_sums(Chart(chart), _every_step(wanted, step, by), step) | {"zone": "UTC"}
    )


@blueprint.get("/usage.csv")
@signed_in
def download() -> ResponseReturnValue:
    """Send all groups of the report as CSV, with the filters and order of the page."""
    now = present_time()
    query = read_usage_query(request.args, database(), viewer(), now)
    if query.faults:
        abort(404)
    days = f"{query.time.first}-to-{query.time.last or now.date()}"
    name = f"usage-by-{query.by}-{days}.csv"
    chunks = usage_csv(services().sessions, query.wanted(now), query, services().settings)
    return Response(
        chain([next(chunks)], chunks),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _every_step(wanted: UsageScope, step: timedelta, by: UsageGroup) -> list[UsageTotals]:
    """Return the sums of every hour or day of a range, including those without usage."""
    count = -(-(wanted.until - wanted.since) // step)
    starts = [wanted.since + n * step for n in range(count)]
    found = {
        sums.group: sums
        for sums in list_usage(database(), wanted, by, after=None, limit=max(1, count))
    }
    return [found.get(start) or UsageTotals(group=start) for start in starts]


def _details_of(query: UsageQuery, sums: UsageTotals) -> dict[str, Any]:
    """Return the changes of the query that show one group in detail."""
    group = group_text(query.by, sums.group)
    unsorted = {"sort": None}
    if query.by is UsageGroup.USER:
        return {"user": group, "by": "key", **unsorted}
    if query.by is UsageGroup.KEY:
        return {"key": group, "by": "day", **unsorted}
    if query.by is UsageGroup.MODEL:
        return {"model": group, "by": "day", **unsorted}
    day = group[:10]
    by = "hour" if query.by is UsageGroup.DAY else "key"
    return {"from": day, "to": day, "range": None, "by": by, **unsorted}
