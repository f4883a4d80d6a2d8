"""What all dashboards have in common, and the variables that a person chooses by."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.dashboard import (
    AnnotationQuery,
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from dashboards.source.queries import POSTGRES, PROMETHEUS, SqlMarks

TAG = "enginebench"


def frame(uid: str, title: str, description: str, since: str, refresh: str) -> dashboard.Dashboard:
    """An empty dashboard; the others of the house are a link away."""
    return (
        dashboard.Dashboard(title)
        .uid(f"enginebench-{uid}")
        .description(description)
        .tags([TAG])
        .time(since, "now")
        .timezone("browser")
        .refresh(refresh)
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .links(
            [
                dashboard.DashboardLink("enginebench")
                .type(DashboardLinkType.DASHBOARDS)
                .tags([TAG])
                .keep_time(False)
                .include_vars(False)
            ]
        )
        .readonly()
    )


def from_postgres(name: str, label: str, sql: str, several: bool = True) -> dashboard.QueryVariable:
    """A choice among the values a query gives; several at once, and all at first, unless told otherwise."""
    chosen = dashboard.QueryVariable(name).label(label).datasource(POSTGRES).query(sql.strip())
    return _choice(chosen, several)


def from_prometheus(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """A choice among the values of a label: `label_values(metric, label)`; all at first."""
    chosen = dashboard.QueryVariable(name).label(label).datasource(PROMETHEUS)
    chosen.query({"query": query, "refId": f"variable-{name}"}).all_value(".*")
    return _choice(chosen, True)


def marks(name: str, sql: str, color: str) -> dashboard.AnnotationQuery:
    """Marks over all panels, from rows (time, text, tags)."""
    builder = dashboard.AnnotationQuery().name(name).datasource(POSTGRES).enable(True).icon_color(color)
    built: AnnotationQuery = builder.build()
    built.target = SqlMarks(sql)
    return builder


def _choice(chosen: dashboard.QueryVariable, several: bool) -> dashboard.QueryVariable:
    chosen.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)
    chosen.multi(several).include_all(several)
    return chosen.current(VariableOption(True, ["All"], ["$__all"])) if several else chosen
