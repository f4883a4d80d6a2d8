"""Panels, which cannot be made without a title, a unit, a description and words for when there is nothing to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import barchart, common, dashboard, stat, table, timeseries, trend
from grafana_foundation_sdk.builders.common import GraphThresholdsStyleConfig
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import (
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardFieldConfigSourceOverrides,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldConfig,
    FieldConfigSource,
    GridPos,
    MatcherConfig,
    Panel,
    Threshold,
    ThresholdsConfig,
)

from dashboards.source.queries import POSTGRES, PROMETHEUS, Sql

#: Ends the description of every panel that stays empty without an NVIDIA GPU; the tests look for it.
NEEDS_GPU = "Needs a GPU."

TOKENS_PER_S = "suffix: tok/s"
PER_W = "suffix: tok/s/W"
#: Thresholds of a ratio where 1 is bad: any is worth a look, a tenth is a fault.
ANY_IS_BAD = ((0, "green"), (0.0001, "orange"), (0.1, "red"))


@dataclass(frozen=True, slots=True)
class About:
    """What stands on a panel."""

    title: str
    #: of Grafana's names, or "suffix: x"
    unit: str
    #: what it shows, from where, and how to read it
    description: str
    #: in place of a picture where the queries give nothing
    no_data: str
    #: (from this value on, colour), ascending; the first stands for everything below the second
    thresholds: Sequence[tuple[float, str]] = ()
    #: of the grid's 24 columns
    width: int = 12
    height: int = 8


@dataclass(frozen=True, slots=True)
class Made(Builder[Panel]):
    """A finished panel, where the SDK asks for one that is still to be built."""

    panel: Panel

    def build(self) -> Panel:
        """The panel."""
        return self.panel


def lines(about: About, *queries: Builder[Dataquery], steps: bool = False) -> Made:
    """Values over time. `steps`: each holds until the next."""
    kind = (
        timeseries.Panel()
        .line_width(2 if steps else 1)
        .fill_opacity(8)
        .show_points(VisibilityMode.AUTO)
        .legend(_legend())
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if about.thresholds:
        kind.thresholds_style(GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.DASHED))
    return _dressed(kind.build(), about, queries)


def points(about: About, *queries: Builder[Dataquery]) -> Made:
    """One point a run, or a job, joined by a thin line."""
    kind = (
        timeseries.Panel()
        .line_width(1)
        .point_size(6)
        .show_points(VisibilityMode.ALWAYS)
        .span_nulls(True)
        .legend(_legend())
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if about.thresholds:
        kind.thresholds_style(GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.DASHED_AND_AREA))
    return _dressed(kind.build(), about, queries)


def number(about: About, *queries: Builder[Dataquery]) -> Made:
    """The last value, large."""
    kind = stat.Panel().reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return _dressed(kind.build(), about, queries)


def rows(about: About, *queries: Builder[Dataquery], units: Mapping[str, str] | None = None) -> Made:
    """A table. `units`: of columns that do not have the panel's."""
    made = _dressed(table.Panel().show_header(True).build(), about, queries)
    for column, unit in (units or {}).items():
        override(made, "byName", column, unit=unit)
    return made


def bars(about: About, query: Sql, x: str) -> Made:
    """One group of bars a value of the column `x`."""
    kind = barchart.Panel().x_field(x).orientation(VizOrientation.HORIZONTAL).legend(_legend())
    return _dressed(kind.build(), about, (query,))


def along(about: About, query: Sql, x: str) -> Made:
    """Lines over a column that is not a time."""
    kind = trend.Panel().x_field(x).line_width(1).show_points(VisibilityMode.NEVER).legend(_legend())
    return _dressed(kind.build(), about, (query,))


def curve(about: About, *queries: Sql, x: str, y: str, group: str) -> Made:
    """Column `y` over column `x`, a line for each value of column `group`, joined in the order of the rows.

    The SDK's own XY chart is the one before Grafana 11.1; these are the options since.
    """
    kind = (
        dashboard.Panel()
        .type("xychart")
        .plugin_version("12.0.0")
        .options(
            {
                "mapping": "auto",
                "series": [{"x": _named(x), "y": _named(y)}],
                "legend": {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []},
                "tooltip": {"mode": "single", "sort": "none"},
            }
        )
        .custom({"show": "points+lines", "pointSize": {"fixed": 8}, "fillOpacity": 100, "lineWidth": 2})
        .with_transformation(
            DataTransformerConfig(
                id_val="partitionByValues",
                options={"fields": [group], "keepFields": False, "naming": {"asLabels": False}},
            )
        )
    )
    return _dressed(kind.build(), about, queries)


def _named(column: str) -> dict[str, object]:
    return {"matcher": {"id": "byName", "options": column}}


def override(made: Made, matcher: str, what: str, **properties: object) -> None:
    """Let fields that match differ from the panel's defaults; `__` in a property's name stands for a dot."""
    config = made.panel.field_config
    assert config is not None
    config.overrides.append(
        DashboardFieldConfigSourceOverrides(
            matcher=MatcherConfig(id_val=matcher, options=what),
            properties=[
                DynamicConfigValue(id_val=name.replace("__", "."), value=value) for name, value in properties.items()
            ],
        )
    )


def _legend() -> common.VizLegendOptions:
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    return legend.show_legend(True)


def _dressed(panel: Panel, about: About, queries: Sequence[Builder[Dataquery]]) -> Made:
    panel.title = about.title
    panel.description = about.description
    panel.grid_pos = GridPos(h=about.height, w=about.width)
    panel.datasource = source_of(queries)
    panel.targets = [query.build() for query in queries]
    config = panel.field_config or FieldConfigSource()
    config.defaults = config.defaults or FieldConfig()
    config.defaults.unit = about.unit
    config.defaults.no_value = about.no_data
    config.defaults.thresholds = ThresholdsConfig(
        steps=[
            Threshold(value=value if k else None, color=color)
            for k, (value, color) in enumerate(about.thresholds or ((0, "text"),))
        ]
    )
    panel.field_config = config
    return Made(panel)


def source_of(queries: Sequence[Builder[Dataquery]]) -> DataSourceRef:
    """The one that all queries of a panel ask."""
    asked = {isinstance(query, Sql) for query in queries}
    assert len(asked) == 1, "a panel asks one datasource"
    return POSTGRES if asked.pop() else PROMETHEUS
