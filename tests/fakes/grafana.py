"""The committed dashboards, read and filled in as Grafana does it: every query of every panel, variables and macros."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "dashboards" / "grafana"
PROMETHEUS = "enginebench-prometheus"
POSTGRES = "enginebench-postgres"

#: Grafana's names of spans, for `$__timeGroup`.
_SPANS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel, a variable or an annotation."""

    dashboard: str
    #: of the panel; "variable x"; "annotation x"
    title: str
    ref: str
    #: uid of the datasource
    source: str
    #: PromQL, `label_values(…)` or SQL
    text: str
    #: PromQL asked for one moment, not for a range
    instant: bool = False

    @property
    def place(self) -> tuple[str, str]:
        """Where it stands."""
        return self.dashboard, self.title


@dataclass(frozen=True, slots=True)
class Moments:
    """What the dashboard's time picker shows."""

    since: datetime
    until: datetime

    @property
    def span_s(self) -> float:
        """From one end to the other."""
        return (self.until - self.since).total_seconds()


def dashboards() -> dict[str, dict[str, Any]]:
    """File name without its ending -> the dashboard."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def panels(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All but the rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def panel_queries(name: str, dashboard: Mapping[str, Any]) -> Iterator[Query]:
    """Every query of every panel, and of the annotations."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            uid, text = target["datasource"]["uid"], target.get("expr") or target["rawSql"]
            yield Query(name, panel["title"], target["refId"], uid, text, bool(target.get("instant")))
    for mark in dashboard["annotations"].get("list", []):
        title = f"annotation {mark['name']}"
        yield Query(name, title, "Anno", mark["datasource"]["uid"], mark["target"]["rawSql"])


def variable_queries(name: str, dashboard: Mapping[str, Any]) -> Iterator[Query]:
    """Every variable's."""
    for variable in dashboard["templating"].get("list", []):
        asked = variable["query"]
        text = asked["query"] if isinstance(asked, dict) else asked
        yield Query(name, f"variable {variable['name']}", "", variable["datasource"]["uid"], text)


def fill(query: Query, chosen: Mapping[str, Sequence[str]], moments: Moments, interval_s: int = 1) -> str:
    """The query as the datasource gets it.

    Args:
        query: of a panel or a variable.
        chosen: variable -> its values; ("$__all",) for a variable with a value of its own for All.
        moments: of the time picker.
        interval_s: `$__interval`; the rate interval is the least that Grafana takes for scrapes each second.
    """
    if query.source == PROMETHEUS:
        text = query.text.replace("$__rate_interval", f"{max(4, interval_s + 1)}s").replace(
            "$__interval", f"{interval_s}s"
        )
        for name, values in chosen.items():
            text = re.sub(rf"\${name}\b", _regex(values).replace("\\", r"\\"), text)
    else:
        text = query.text.replace("$__interval", f"{interval_s}s")
        for name, values in chosen.items():
            listed = ",".join("'{}'".format(value.replace("'", "''")) for value in values)
            text = text.replace(f"${{{name}:sqlstring}}", listed)
        text = _macros(text, moments)
    assert not re.search(r"\$\w|\$\{", text), f"{query.place}: not filled in: {text}"
    return text


def _regex(values: Sequence[str]) -> str:
    """As Grafana's Prometheus datasource writes a choice of several."""
    if list(values) == ["$__all"]:
        return ".*"
    escaped = [re.sub(r"([\\^$*+?.()|\[\]{}])", r"\\\\\1", value) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def _macros(text: str, moments: Moments) -> str:
    since, until = (f"'{moment.isoformat()}'" for moment in (moments.since, moments.until))
    text = re.sub(r"\$__timeFilter\(([^)]+)\)", lambda m: f"{m[1]} BETWEEN {since} AND {until}", text)
    text = re.sub(r"\$__timeGroup\(([^,]+),\s*'?(\d+)([smhd])'?\)", _grouped, text)
    return text.replace("$__timeFrom()", since).replace("$__timeTo()", until)


def _grouped(match: re.Match[str]) -> str:
    span_s = int(match[2]) * _SPANS_S[match[3]]
    return f"floor(extract(epoch from {match[1]})/{span_s})*{span_s}"
