"""Each kind of panel, drawn into its place."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tests.stack.answers import Answer, Series
from tests.stack.pictures.lines import Line, lines_over, lines_over_time
from tests.stack.pictures.overrides import of_field
from tests.stack.pictures.units import written

EDGE, INK, FAINT, GRID = "#d3d7de", "#24292f", "#6a737d", "#e8eaee"
COLOURS = ("#1f5fa8", "#e08a1e", "#3a923a", "#b5403c", "#8463a8", "#2aa3b5", "#c86fae", "#7a5a4f", "#8f8f20", "#6b6b6b")
NAMED = {"green": "#2f8f46", "orange": "#d9822b", "red": "#c5373d", "text": INK, "purple": "#8463a8"}
SMALL = 7.4


@dataclass(frozen=True, slots=True)
class Place:
    """Where a panel's content goes, in inches from the lower left corner of the figure, and what times it shows."""

    figure: Figure
    x: float
    y: float
    w: float
    h: float
    since: datetime
    until: datetime
    #: rows (time, text) of the dashboard's annotations
    marks: Sequence[Mapping[str, Any]] = ()

    def axes(self, *, left: float, bottom: float, right: float = 0.1, top: float = 0.06) -> Axes:
        """Axes within, with margins for what stands beside them."""
        wide, high = self.figure.get_size_inches()
        box = (
            (self.x + left) / wide,
            (self.y + bottom) / high,
            max(0.2, self.w - left - right) / wide,
            max(0.2, self.h - bottom - top) / high,
        )
        axes = self.figure.add_axes(box)
        axes.tick_params(labelsize=SMALL, length=0, colors=FAINT)
        axes.grid(True, color=GRID, linewidth=0.7)
        axes.set_axisbelow(True)
        for side in axes.spines.values():
            side.set_visible(False)
        return axes

    def text(self, x: float, y: float, words: str, **style: Any) -> None:
        """Words at a place within, in inches from its lower left corner."""
        wide, high = self.figure.get_size_inches()
        self.figure.text((self.x + x) / wide, (self.y + y) / high, words, **({"color": INK, "va": "center"} | style))


def draw_panel(place: Place, panel: Mapping[str, Any], answers: Mapping[str, Answer]) -> None:
    """The panel's content. An answer to every query is not needed, one is."""
    first = panel["targets"][0]["refId"]
    match panel["type"]:
        case "timeseries":
            _over_time(place, panel, lines_over_time(panel, answers))
        case "trend":
            _trend(place, panel, lines_over(panel["options"]["xField"], answers[first]))
        case "stat":
            _numbers(place, panel, answers)
        case "table":
            _table(place, panel, answers[first])
        case "barchart":
            _bars(place, panel, answers[first])
        case "xychart":
            _curve(place, panel, answers)
        case kind:
            raise AssertionError(f"no way to draw a {kind}")


def _over_time(place: Place, panel: Mapping[str, Any], lines: Sequence[Line]) -> None:
    unit = of_field(panel, "")["unit"]
    custom = panel["fieldConfig"]["defaults"].get("custom", {})
    names = [line.name for line in lines]
    axes = place.axes(left=0.75, bottom=0.28 + _legend_height(place, names))
    dotted = custom.get("showPoints") == "always"
    steps = "steps-post" if custom.get("lineWidth") == 2 else "default"
    for line, colour in zip(lines, cycle(COLOURS)):
        own = of_field(panel, line.name)
        is_dashed = own.get("custom.lineStyle", {}).get("fill") == "dash"
        marker = "o" if (dotted or len(line.x) < 3) and own.get("custom.showPoints") != "never" else None
        values = [float("nan") if value is None else value for value in line.y]
        axes.plot(
            line.x, values, color=colour, linewidth=1.3, marker=marker, markersize=4, drawstyle=steps,
            linestyle="--" if is_dashed else "-",
        )  # fmt: skip
        if custom.get("fillOpacity") and not dotted and steps == "default":
            axes.fill_between(line.x, values, color=colour, alpha=0.08, linewidth=0)
    _thresholds(axes, panel)
    axes.set_xlim(place.since.timestamp(), place.until.timestamp())
    _room_above(axes, lines)
    for mark in place.marks:
        axes.axvline(mark["time"].timestamp(), color=NAMED["purple"], linewidth=1, linestyle=(0, (4, 3)))
    if not any(place.since.timestamp() <= at <= place.until.timestamp() for line in lines for at in line.x):
        axes.text(0.5, 0.5, "all of it lies before this range", transform=axes.transAxes, color=FAINT, ha="center")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}"))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: written(round(value, 9), unit)))
    _legend(place, names)


def _room_above(axes: Axes, lines: Sequence[Line]) -> None:
    """From 0 on where nothing is below it, so that lines that lie close look close."""
    values = [value for line in lines for value in line.y if value is not None]
    top, bottom = max(values, default=1.0), min(values, default=0.0)
    spread = max(top, 0.0) - min(bottom, 0.0) or 1.0
    axes.set_ylim(min(bottom * 1.15, 0.0) if bottom < 0 else -0.02 * spread, max(top, 0.0) + 0.12 * spread)


def _thresholds(axes: Axes, panel: Mapping[str, Any]) -> None:
    style = panel["fieldConfig"]["defaults"].get("custom", {}).get("thresholdsStyle", {}).get("mode", "off")
    steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
    if "dashed" in style:
        for step in steps:
            if step.get("value") is not None:
                axes.axhline(step["value"], color=NAMED[step["color"]], linewidth=0.8, linestyle=(0, (5, 4)))


def _trend(place: Place, panel: Mapping[str, Any], lines: Sequence[Line]) -> None:
    unit = of_field(panel, "")["unit"]
    names = [line.name for line in lines]
    axes = place.axes(left=0.75, bottom=0.28 + _legend_height(place, names))
    for line, colour in zip(lines, cycle(COLOURS)):
        axes.plot(line.x, [float("nan") if v is None else v for v in line.y], color=colour, linewidth=1.3)
    _room_above(axes, lines)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:g} s"))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: written(round(value, 9), unit)))
    _legend(place, names)


def _numbers(place: Place, panel: Mapping[str, Any], answers: Mapping[str, Answer]) -> None:
    """The last value of each series, large, in the colour of its threshold."""
    found: list[tuple[str, float]] = []
    for target in panel["targets"]:
        answer = answers.get(target["refId"]) or []
        if answer and isinstance(answer[0], Series):
            found += [(line.name, series.values[-1]) for line, series in zip(
                lines_over_time({**panel, "targets": [target]}, answers), answer, strict=True)]  # fmt: skip
        elif answer:
            found += [(name, float(value)) for name, value in answer[-1].items()]
    unit = of_field(panel, "")["unit"]
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    for number, (name, value) in enumerate(found):
        x = place.w * (number + 0.5) / len(found)
        met = [step["color"] for step in steps if step.get("value") is None or value >= step["value"]]
        size = 26 if len(found) < 3 else 15
        middle = place.h / 2 - 0.02
        place.text(x, middle, written(value, unit), fontsize=size, weight="bold", ha="center", color=NAMED[met[-1]])
        if 1 < len(found) < 6:
            name = textwrap.shorten(name, int(place.w / len(found) * 15), placeholder="…")
            place.text(x, 0.12, name, fontsize=SMALL, ha="center", color=FAINT)


def _table(place: Place, panel: Mapping[str, Any], answer: Answer) -> None:
    """As many rows as there is room for; says how many are left out."""
    rows = [{**one.labels, "Value": one.values[-1]} if isinstance(one, Series) else dict(one) for one in answer]
    columns = [name for name in dict.fromkeys(key for row in rows for key in row) if not _hidden(panel, name)]
    cells = [[written(row.get(name), of_field(panel, name)["unit"]) for name in columns] for row in rows]
    heads = [str(of_field(panel, name).get("displayName", name)) for name in columns]
    line = 0.205
    fits = int((place.h - 0.42) / line)
    widths = [3.0 + _column(head, [row[k] for row in cells[:fits]]) for k, head in enumerate(heads)]
    # Letters of this size an inch; a table too wide for that is written smaller.
    size = SMALL if sum(widths) / place.w < 14.5 else SMALL - 1.2
    at = 0.0
    for column, head in enumerate(heads):
        wide = widths[column] * place.w / sum(widths)
        room = max(3, int(wide * 14.5 * SMALL / size) - 1)
        lines = textwrap.wrap(head, room, break_long_words=False)[:2]
        blue = {"fontsize": size, "color": "#1f5fa8", "weight": "bold", "linespacing": 1.0}
        place.text(at + 0.03, place.h - 0.14, "\n".join(lines), **blue)
        for number, row in enumerate(cells[:fits]):
            y = place.h - 0.22 - line * (number + 1)
            place.text(at + 0.03, y, _cut(row[column], room), fontsize=size)
        at += wide
    if len(cells) > fits:
        place.text(0.03, 0.05, f"and {len(cells) - fits} rows more, to scroll to", fontsize=SMALL, color=FAINT)


def _hidden(panel: Mapping[str, Any], name: str) -> bool:
    return bool(of_field(panel, name).get("custom.hidden"))


def _column(head: str, cells: Sequence[str]) -> int:
    """Letters it is wide: as its longest cell, or the head on two lines; long ones less than in full."""
    longest = max((len(word) for word in head.split()), default=1)
    return min(46, max(longest, (len(head) + 1) // 2, *map(len, cells)))


def _cut(words: str, room: int) -> str:
    return words if len(words) <= room else words[: room - 1] + "…"


def _bars(place: Place, panel: Mapping[str, Any], answer: Answer) -> None:
    column, unit = panel["options"]["xField"], of_field(panel, "")["unit"]
    kinds = [name for name in answer[0] if name != column]
    names = [str(row[column]) for row in answer]
    axes = place.axes(left=min(3.1, 0.3 + 0.052 * max(map(len, names))), bottom=0.28 + _legend_height(place, kinds))
    high = 0.8 / len(kinds)
    for number, (kind, colour) in enumerate(zip(kinds, cycle(COLOURS))):
        places = [row + (number - (len(kinds) - 1) / 2) * high for row in range(len(names))]
        axes.barh(places, [float(row[kind]) for row in answer], high * 0.9, color=colour)
    axes.set_yticks(range(len(names)), [_cut(name, 56) for name in names])
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: written(round(value, 9), unit)))
    _legend(place, kinds)


def _curve(place: Place, panel: Mapping[str, Any], answers: Mapping[str, Answer]) -> None:
    """Each series of each query, joined in the order of its rows; hollow points where the panel fills them with 0."""
    x, y = (panel["options"]["series"][0][axis]["matcher"]["options"] for axis in ("x", "y"))
    (group,) = panel["transformations"][0]["options"]["fields"]
    found: dict[str, list[dict[str, Any]]] = {}
    for target in panel["targets"]:
        for row in answers.get(target["refId"]) or []:
            found.setdefault(str(row[group]), []).append(row)
    # What is not in the legend is drawn in the colour it is given, or in that of the series it belongs to.
    legend = [name for name in found if not of_field(panel, name).get("custom.hideFrom", {}).get("legend")]
    colours = dict(zip(legend, cycle(COLOURS)))
    axes = place.axes(left=0.85, bottom=0.5 + _legend_height(place, legend), right=0.3)
    for name, rows in found.items():
        own = of_field(panel, name)
        colour = own.get("color", {}).get("fixedColor") or colours.get(name, FAINT)
        show = own["custom.show"]
        axes.plot(
            [float(row[x]) for row in rows], [float(row[y]) for row in rows], color=colour,
            linestyle="-" if "lines" in show else "", linewidth=own["custom.lineWidth"] * 0.8,
            marker="o" if "points" in show else None, markersize=own["custom.pointSize"]["fixed"] * 0.9,
            markerfacecolor=colour if own["custom.fillOpacity"] else PAPER, markeredgewidth=1.4,
            zorder=3 if name in colours else 2,
        )  # fmt: skip
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(x, fontsize=SMALL + 0.6, color=INK)
    axes.set_ylabel(y, fontsize=SMALL + 0.6, color=INK)
    _legend(place, legend, [colours[name] for name in legend])


PAPER = "#ffffff"
#: Of a legend: room of one line, and of one letter.
_LINE_IN, _LETTER_IN = 0.17, 0.054


def _rows_of_legend(place: Place, names: Sequence[str]) -> list[list[tuple[int, str]]]:
    rows: list[list[tuple[int, str]]] = [[]]
    used = 0.0
    for number, name in enumerate(names):
        wide = 0.3 + _LETTER_IN * len(name)
        if rows[-1] and used + wide > place.w:
            rows.append([])
            used = 0.0
        rows[-1].append((number, name))
        used += wide
    return rows


def _legend_height(place: Place, names: Sequence[str]) -> float:
    return min(3, len(_rows_of_legend(place, names))) * _LINE_IN


def _legend(place: Place, names: Sequence[str], colours: Sequence[str] = COLOURS) -> None:
    """At the bottom, three lines of it at most, as Grafana lets one scroll."""
    rows = _rows_of_legend(place, names)
    for number, row in enumerate(rows[:3]):
        y = (min(3, len(rows)) - number - 0.5) * _LINE_IN
        at = 0.05
        for index, name in row:
            place.text(at, y, "━", fontsize=SMALL, color=colours[index % len(colours)], weight="bold")
            place.text(at + 0.13, y, name, fontsize=SMALL)
            at += 0.3 + _LETTER_IN * len(name)
        if number == 2 and len(rows) > 3:
            place.text(place.w - 0.05, y, f"… {len(names)} in all", fontsize=SMALL, color=FAINT, ha="right")
