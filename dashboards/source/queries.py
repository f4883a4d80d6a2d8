"""Where panels read from: one Prometheus, one Postgres, under the uids that the provisioning gives them."""

from __future__ import annotations

from dataclasses import dataclass

from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.dashboard import AnnotationTarget, DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

PROMETHEUS = DataSourceRef(type_val="prometheus", uid="enginebench-prometheus")
POSTGRES = DataSourceRef(type_val="grafana-postgresql-datasource", uid="enginebench-postgres")


@dataclass(frozen=True, slots=True)
class Sql(Builder[Dataquery]):
    """One SQL query of a panel; the SDK has none for Postgres."""

    text: str
    #: "table", or "time_series": columns time, value and, for the series' name, metric
    shape: str = "table"
    ref: str = "A"

    def build(self) -> Dataquery:
        """Itself as the panel keeps it."""
        return _SqlQuery(self)


class _SqlQuery(Dataquery):
    def __init__(self, query: Sql) -> None:
        self._query = query

    def to_json(self) -> dict[str, object]:
        query = self._query
        return {"refId": query.ref, "datasource": POSTGRES} | _code(query.text, query.shape)


class SqlMarks(AnnotationTarget):
    """SQL whose rows (time, text, tags) are marks over every panel."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def to_json(self) -> dict[str, object]:
        """As the annotation keeps it."""
        return {"refId": "Anno"} | _code(self._text, "table")


def _code(text: str, shape: str) -> dict[str, object]:
    return {"format": shape, "rawSql": text.strip(), "rawQuery": True, "editorMode": "code"}


def over_time(expression: str, legend: str, ref: str = "A") -> prometheus.Dataquery:
    """PromQL asked for each step of the dashboard's range."""
    return (
        prometheus.Dataquery()
        .expr(" ".join(expression.split()))
        .legend_format(legend)
        .range()
        .ref_id(ref)
        .datasource(PROMETHEUS)
    )


def just_now(expression: str, legend: str = "__auto", ref: str = "A") -> prometheus.Dataquery:
    """PromQL asked for the end of the dashboard's range; as a table, one row a series."""
    return (
        prometheus.Dataquery()
        .expr(" ".join(expression.split()))
        .legend_format(legend)
        .instant()
        .format(PromQueryFormat.TABLE)
        .ref_id(ref)
        .datasource(PROMETHEUS)
    )
