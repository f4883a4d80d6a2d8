"""What the engine said of itself over the window: a compact time series, and in a few figures. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from bench_runner.measure.counters import moves, only_counters
from engines.watch import Reading

#: read for other reasons; it does not move
_STILL = "process_start_time_seconds"


def within(readings: Sequence[Reading], window: tuple[int, int]) -> tuple[Reading, ...]:
    """Those that were asked for and answered in the window, ns."""
    return tuple(one for one in readings if window[0] <= one.asked_ns and one.answered_ns <= window[1])


def describe_telemetry(
    readings: Sequence[Reading], window: tuple[int, int], before: Mapping[str, float], after: Mapping[str, float]
) -> dict[str, Any] | None:
    """All of it as plain JSON types; `None`: the engine said nothing.

    Args:
        readings: while it was driven.
        window: from and to, ns.
        before: the scrape before the load, under canonical names; {}: it gave nothing.
        after: the one after it, once the counters stood still.

    Returns:
        `counters` before and after the load, `None` for a scrape that gave none; `server`, as `describe_server` has it;
        and where there are readings in the window what `_series` gives.
    """
    kept = within(readings, window)
    counters = {"before": only_counters(before) or None, "after": only_counters(after) or None}
    if not kept and counters == {"before": None, "after": None}:
        return None
    return {
        **(_series(kept, window[0]) if kept else {}),
        "counters": counters,
        "server": describe_server(kept, before, after),
    }


def describe_server(
    readings: Sequence[Reading], before: Mapping[str, float], after: Mapping[str, float]
) -> dict[str, float | int | None]:
    """The server's own view of the run in a few figures; `None`: its metrics do not tell, or it was started anew.

    Means of times are the moved sums over the moved counts, so of all that it counted from just before the load to just
    after it: the run's requests, those sent in a ramp-up or a drain too, and a stranger's. The KV cache in use is that
    of the readings.
    """
    by = moves(before, after) or {}
    usage = [one.values["kv_cache_usage_ratio"] for one in readings if "kv_cache_usage_ratio" in one.values]
    return {
        "ttft_mean_s": _mean(by, "time_to_first_token_seconds"),
        "ttft_requests": _count(by, "time_to_first_token_seconds_count"),
        "queue_mean_s": _mean(by, "queue_time_seconds"),
        "queue_requests": _count(by, "queue_time_seconds_count"),
        "kv_cache_usage_mean_ratio": _short(fmean(usage)) if usage else None,
        "kv_cache_usage_max_ratio": _short(max(usage)) if usage else None,
        "prefix_cache_queried_tokens": _count(by, "prefix_cache_queries_total"),
        "prefix_cache_hit_tokens": _count(by, "prefix_cache_hits_total"),
        "preemptions": _count(by, "preemptions_total"),
    }


def _mean(by: Mapping[str, float], name: str) -> float | None:
    count = by.get(f"{name}_count")
    total = by.get(f"{name}_sum")
    return round(total / count, 9) if count and total is not None else None


def _count(by: Mapping[str, float], name: str) -> int | None:
    return round(by[name]) if name in by else None


def _series(kept: Sequence[Reading], start_ns: int) -> dict[str, Any]:
    """One column a name, `None` where a reading lacks it.

    `at_s` is the middle between asking and answer, from the window's start; `scrape_s` how long that took.
    """
    took_s = [(one.answered_ns - one.asked_ns) / 1e9 for one in kept]
    names = sorted({name for one in kept for name in one.values} - {_STILL})
    return {
        "scrape_s": {"p50": round(median(took_s), 6), "max": round(max(took_s), 6)},
        "at_s": [round(((one.asked_ns + one.answered_ns) / 2 - start_ns) / 1e9, 4) for one in kept],
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
