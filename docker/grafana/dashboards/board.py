"""Build a dashboard of rows of panels as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DashboardLinkType

from cli.monitoring.settings import RUNBOOKS
from docker.grafana.dashboards.panel import Panel
from docker.grafana.dashboards.query import PROMETHEUS

TAG = "bountycoder"


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard; `uid` is also the name of its files."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    since: str = "now-6h"
    refresh: str = "30s"
    variables: Sequence[dashboard.QueryVariable] = field(default_factory=tuple)

    def json(self) -> str:
        """Return the JSON that Grafana is provisioned with."""
        return JSONEncoder(indent=2, ensure_ascii=False).encode(self._built()) + "\n"

    def _built(self) -> object:
        builder = (
            dashboard.Dashboard(self.title)
            .uid(self.uid)
            .description(self.description)
            .tags([TAG])
            .timezone("browser")
            .time(self.since, "now")
            .refresh(self.refresh)
            .tooltip(DashboardCursorSync.CROSSHAIR)
            .links([_other_dashboards(), _runbooks()])
            .annotation(_alerts())
            .readonly()
        )
        for variable in self.variables:
            builder.with_variable(variable)
        number = 0
        for row in self.rows:
            number += 1
            builder.with_row(dashboard.Row(row.title).id(number))
            for panel in row.panels:
                number += 1
                builder.with_panel(panel.id(number))
        return builder.build()


def _other_dashboards() -> dashboard.DashboardLink:
    link = dashboard.DashboardLink("Dashboards").type(DashboardLinkType.DASHBOARDS)
    return link.tags([TAG]).as_dropdown(True).keep_time(True)


def _runbooks() -> dashboard.DashboardLink:
    link = dashboard.DashboardLink("What to do").type(DashboardLinkType.LINK)
    return link.url(RUNBOOKS).target_blank(True)


def _alerts() -> dashboard.AnnotationQuery:
    """Return annotations that mark fired alerts."""
    query = dashboard.AnnotationQuery().name("Alerts").datasource(PROMETHEUS).enable(True)
    return query.hide(False).icon_color("red").expr('ALERTS{alertstate="firing"}')
