"""Build the queries of panels: to Prometheus, and to PostgreSQL as Grafana's role."""

from __future__ import annotations

from dataclasses import dataclass

from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.dashboard import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

#: As `provisioning/datasources` names them.
PROMETHEUS = DataSourceRef(type_val="prometheus", uid="prometheus")
POSTGRES = DataSourceRef(type_val="grafana-postgresql-datasource", uid="postgres")


@dataclass(frozen=True, slots=True)
class Query:
    """A query of a panel.

    Attributes:
        legend: the template of the lines' names, such as `{{instance}}`.
        is_instant: requests the present values as a table.
    """

    text: str
    legend: str = ""
    is_instant: bool = False
    is_sql: bool = False

    @property
    def source(self) -> DataSourceRef:
        return POSTGRES if self.is_sql else PROMETHEUS

    def target(self, ref_id: str) -> Builder[Dataquery]:
        """Return the query as a panel's target."""
        if self.is_sql:
            return _SqlTarget(self.text, ref_id)
        target = prometheus.Dataquery().expr(self.text).ref_id(ref_id).datasource(PROMETHEUS)
        target = target.legend_format(self.legend or "__auto")
        if self.is_instant:
            return target.instant().format(PromQueryFormat.TABLE)
        return target.range()


def per_second(counter: str, by: str = "", legend: str = "") -> Query:
    """Return the rate of a counter, summed over all processes."""
    return Query(f"{_sum(by)}(rate({counter}[$__rate_interval]))", legend)


def quantiles(histogram: str, *wanted: float) -> list[Query]:
    """Return quantiles of a histogram, over all processes."""
    name, brace, labels = histogram.partition("{")
    buckets = f"sum by (le) (rate({name}_bucket{brace}{labels}[$__rate_interval]))"
    return [
        Query(f"histogram_quantile({share:g}, {buckets})", f"{share:.0%} are below")
        for share in wanted
    ]


def mean(histogram: str, by: str = "", legend: str = "") -> Query:
    """Return the mean of a histogram's observations."""
    name, brace, labels = histogram.partition("{")
    sums, counts = (
        f"{_sum(by)}(rate({name}_{part}{brace}{labels}[$__rate_interval]))"
        for part in ("sum", "count")
    )
    return Query(f"{sums} / {counts}", legend)


def sql(text: str) -> Query:
    """Return a query to PostgreSQL; lines over time need a column `time`."""
    return Query(text.strip(), is_sql=True)


def _sum(by: str) -> str:
    return f"sum by ({by}) " if by else "sum"


@dataclass(frozen=True, slots=True)
class _SqlTarget(Builder[Dataquery], Dataquery):
    """A query to PostgreSQL, for which the SDK has no builder."""

    text: str
    ref_id: str

    def build(self) -> Dataquery:
        return self

    def to_json(self) -> dict[str, object]:
        return {
            "datasource": POSTGRES,
            "editorMode": "code",
            "format": "table",
            "rawQuery": True,
            "rawSql": self.text,
            "refId": self.ref_id,
        }
