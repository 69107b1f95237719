"""Build panels: lines over time, bars for each day, a single figure, a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TypeVar

from grafana_foundation_sdk.builders import common, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import DashboardLink, ThresholdsConfig
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphDrawStyle,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    LineInterpolation,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
)

from cli.monitoring.settings import RUNBOOKS
from docker.grafana.dashboards.query import Query

Panel = timeseries.Panel | stat.Panel | table.Panel
PanelT = TypeVar("PanelT", timeseries.Panel, stat.Panel, table.Panel)

HEIGHT = 8
FIGURE_HEIGHT = 4


@dataclass(frozen=True, slots=True)
class Limit:
    """The threshold of a panel, and the alert with the same threshold.

    Attributes:
        is_floor: values below the threshold are bad, not values above it.
    """

    value: float
    alert: str
    is_floor: bool = False


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query | Sequence[Query],
    span: int = 8,
    limit: Limit | None = None,
    max_value: float | None = None,
    is_stacked: bool = False,
    is_stepped: bool = False,
) -> timeseries.Panel:
    """Return lines over time.

    Args:
        max_value: the upper end of the axis; default: chosen by Grafana.
    """
    panel = _described(timeseries.Panel(), title, description, unit, _flat(queries), span, HEIGHT)
    panel.min(0).fill_opacity(30 if is_stacked else 8).line_width(1)
    panel.legend(
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    panel.tooltip(
        common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
    )
    if max_value is not None:
        panel.max(max_value)
    if is_stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if is_stepped:
        panel.line_interpolation(LineInterpolation.STEP_AFTER)
    if limit is not None:
        _mark(panel, limit)
        panel.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        )
    return panel


def bars(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    span: int = 12,
    is_stacked: bool = True,
) -> timeseries.Panel:
    """Return a bar chart with one bar for each day."""
    panel = lines(title, description, unit, *queries, span=span, is_stacked=is_stacked)
    return panel.draw_style(GraphDrawStyle.BARS).fill_opacity(70)


def figure(
    title: str,
    description: str,
    unit: str,
    query: Query,
    *,
    span: int = 4,
    limit: Limit | None = None,
) -> stat.Panel:
    """Return the present value with its history in the background."""
    panel = _described(stat.Panel(), title, description, unit, [query], span, FIGURE_HEIGHT)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.graph_mode(BigValueGraphMode.NONE if query.is_sql else BigValueGraphMode.AREA)
    panel.color_mode(BigValueColorMode.VALUE).no_value("nothing yet")
    if limit is not None:
        _mark(panel, limit)
    return panel


def rows(
    title: str,
    description: str,
    query: Query,
    *,
    span: int = 12,
    units: dict[str, str] | None = None,
) -> table.Panel:
    """Return a table.

    Args:
        units: Grafana's units by column.
    """
    panel = _described(table.Panel(), title, description, "short", [query], span, HEIGHT + 2)
    for column, unit in (units or {}).items():
        panel.override_by_name(column, [DynamicConfigValue(id_val="unit", value=unit)])
    return panel


def _described(
    panel: PanelT,
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    span: int,
    height: int,
) -> PanelT:
    panel.title(title).description(description).unit(unit).span(span).height(height)
    panel.datasource(queries[0].source)
    for ref_id, query in zip(ascii_uppercase, queries, strict=False):
        panel.with_target(query.target(ref_id))
    return panel


def _mark(panel: timeseries.Panel | stat.Panel, limit: Limit) -> None:
    """Colour values beyond the limit red, and link to the alert's runbook."""
    good, bad = ("red", "green") if limit.is_floor else ("green", "red")
    steps = [Threshold(value=None, color=good), Threshold(value=limit.value, color=bad)]
    panel.thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    panel.links(
        [
            DashboardLink(f"What to do: {limit.alert}")
            .type(DashboardLinkType.LINK)
            .url(f"{RUNBOOKS}#{limit.alert.lower()}")
            .target_blank(True)
        ]
    )


def _flat(queries: Sequence[Query | Sequence[Query]]) -> list[Query]:
    flat: list[Query] = []
    for query in queries:
        flat += [query] if isinstance(query, Query) else query
    return flat
