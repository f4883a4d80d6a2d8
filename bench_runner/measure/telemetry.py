"""What the engine said of itself over the window: its own gauges and counters as a compact time series. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from engines.watch import Reading

#: read for other reasons; it does not move
_STILL = "process_start_time_seconds"


def within(readings: Sequence[Reading], window: tuple[int, int]) -> tuple[Reading, ...]:
    """Those that were asked for and answered in the window, ns."""
    return tuple(one for one in readings if window[0] <= one.asked_ns and one.answered_ns <= window[1])


def describe_telemetry(readings: Sequence[Reading], window: tuple[int, int]) -> dict[str, Any] | None:
    """The series as plain JSON types, one column a name, `None` where a reading lacks it; `None` for no reading.

    `at_s` is the middle between asking and answer, from the window's start; `scrape_s` how long that took.
    """
    kept = within(readings, window)
    if not kept:
        return None
    took_s = [(one.answered_ns - one.asked_ns) / 1e9 for one in kept]
    names = sorted({name for one in kept for name in one.values} - {_STILL})
    return {
        "scrape_s": {"p50": round(median(took_s), 6), "max": round(max(took_s), 6)},
        "at_s": [round(((one.asked_ns + one.answered_ns) / 2 - window[0]) / 1e9, 4) for one in kept],
        "series": {name: [_short(one.values.get(name)) for one in kept] for name in names},
    }


def requests_in_engine(readings: Sequence[Reading], window: tuple[int, int]) -> tuple[tuple[int, int, float], ...]:
    """(asked, answered, requests running and waiting) of each reading in the window that has both gauges; ns."""
    names = ("requests_running", "requests_waiting")
    return tuple(
        (one.asked_ns, one.answered_ns, sum(one.values[name] for name in names))
        for one in within(readings, window)
        if all(name in one.values for name in names)
    )


def _short(value: float | None) -> float | int | None:
    if value is None:
        return None
    return int(value) if value.is_integer() else round(value, 6)
