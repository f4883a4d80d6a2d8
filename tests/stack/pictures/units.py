"""Values as Grafana writes them, for the units that the dashboards use."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")


def written(value: Any, unit: str) -> str:
    """One value with its unit; text and moments as they are; a missing one is a dash."""
    match value:
        case None:
            return "–"
        case bool() | str():
            return str(value)
        case datetime():
            return value.strftime("%H:%M:%S")
    number = float(value)
    if math.isnan(number):
        return "–"
    match unit:
        case "percentunit":
            return f"{_short(number * 100)} %"
        case "s":
            return _span(number)
        case "bytes":
            return _bytes(number)
        case "bool_yes_no":
            return "Yes" if number else "No"
        case "reqps":
            return f"{_short(number)} req/s"
        case "ops":
            return f"{_short(number)} ops/s"
        case _ if unit.startswith("suffix:"):
            return f"{_short(number)} {unit.removeprefix('suffix:').strip()}"
    return _short(number)


def _short(number: float) -> str:
    """Three digits that count, and K, M or B where there would be more than four before the point."""
    for size, letter in ((1e9, " B"), (1e6, " M"), (1e4, " K")):
        if abs(number) >= size:
            scale = 1e3 if letter == " K" else size
            return f"{number / scale:.3g}{letter}" if abs(number) / scale < 1e3 else f"{number / scale:.0f}{letter}"
    if abs(number) >= 100 or number == int(number):
        return f"{number:.0f}"
    return f"{number:.3g}"


def _span(seconds: float) -> str:
    if seconds == 0:
        return "0 s"
    for size, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {name}" if abs(seconds) < 1000 else f"{seconds:.0f} s"
    return f"{seconds:.1g} s"


def _bytes(number: float) -> str:
    for name in _BYTES[:-1]:
        if abs(number) < 1024:
            return f"{number:.3g} {name}"
        number /= 1024
    return f"{number:.3g} {_BYTES[-1]}"
