"""What a panel's answers come to before they are drawn: named lines, in the words of the panel's legend."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.stack.answers import Answer, Series

#: Of a line that is not joined over it, s: more than one step without a value.
GAP_S = 1.5


@dataclass(frozen=True, slots=True)
class Line:
    """One line or row of dots."""

    name: str
    #: s since the epoch, or of a column that is no time; `None` as a value: the line is broken here
    x: Sequence[float]
    y: Sequence[float | None]


def lines_over_time(panel: Mapping[str, Any], answers: Mapping[str, Answer]) -> list[Line]:
    """Of every query, in their order."""
    found: list[Line] = []
    for target in panel["targets"]:
        answer = answers.get(target["refId"]) or []
        if answer and isinstance(answer[0], Series):
            for series in answer:
                found.append(_broken_at_gaps(legend(target.get("legendFormat", ""), series.labels), series))
        else:
            found += _of_rows(answer, panel["title"])
    return found


def lines_over(column: str, answer: Answer) -> list[Line]:
    """Every other column of the rows, over this one."""
    names = [name for name in (answer[0] if answer else {}) if name != column]
    return [
        Line(name, [float(row[column]) for row in answer], [_number(row[name]) for row in answer]) for name in names
    ]


def legend(template: str, labels: Mapping[str, str]) -> str:
    """`{{label}}` filled in; without a template the labels themselves."""
    if not template or template == "__auto":
        return ", ".join(f"{name}={value}" for name, value in sorted(labels.items()) if name != "__name__")
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: labels.get(match[1], ""), template).strip()


def _broken_at_gaps(name: str, series: Series) -> Line:
    x: list[float] = []
    y: list[float | None] = []
    for at, value in zip(series.times, series.values, strict=True):
        if x and at - x[-1] > GAP_S:
            x.append(x[-1] + 1e-3)
            y.append(None)
        x.append(at)
        y.append(value)
    return Line(name, x, y)


def _of_rows(rows: Answer, otherwise: str) -> list[Line]:
    """Rows (time, value, metric) as the Postgres datasource turns them into series."""
    names = dict.fromkeys(str(row.get("metric") or otherwise) for row in rows)
    found = []
    for name in names:
        own = [row for row in rows if str(row.get("metric") or otherwise) == name]
        found.append(Line(name.strip(), [_epoch_s(row["time"]) for row in own], [_number(row["value"]) for row in own]))
    return found


def _epoch_s(moment: Any) -> float:
    return moment.astimezone(UTC).timestamp() if isinstance(moment, datetime) else float(moment)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
