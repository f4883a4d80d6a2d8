"""The figures of `make bench-client` and `make calibrate` as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from tests.calibration.bars import (
    MOST_EVENT_ERROR_S,
    MOST_LATE_S,
    MOST_PEAK_BYTES,
    MOST_START_S,
    MOST_TLS_TTFT_ERROR_S,
    MOST_TTFT_ERROR_S,
)
from tests.calibration.machine import title_of

COLOURS = {"enginebench": "#1f5fa8", "aiohttp": "#e08a1e", "httpx": "#b5403c", "C": "#6b6b6b"}
_LEAST_MS = 0.001


def draw_bench(result: dict[str, Any], path: Path) -> Path:
    """Six small charts, one for each question; the path."""
    figure, axes = plt.subplots(2, 3, figsize=(16, 9))
    cost, streams = result["cost"], result["precision"]
    rates = {client: row["tokens_per_cpu_s"] for client, row in cost.items()}
    rates = {"load process alone": cost["enginebench"]["load_tokens_per_cpu_s"], **rates}
    _bars(axes[0][0], rates, "Tokens per CPU-second\n(whole run, start-up taken off)", "tokens / CPU-s", "{:,.0f}")
    walls = {client: row["one_wall_s"] for client, row in cost.items()}
    _bars(axes[0][1], walls, "One request: start-up and all", "wall time, s", "{:.2f}", bar=MOST_START_S)
    peaks = {client: row["one_peak_bytes"] / 1e6 for client, row in cost.items()}
    _bars(
        axes[0][2], peaks, "One request: peak memory of the largest process", "MB", "{:.0f}", bar=MOST_PEAK_BYTES / 1e6
    )
    _pairs(axes[1][0], streams, "ttft_error_p99_s", "TTFT error p99, against the recorded truth", MOST_TTFT_ERROR_S)
    _pairs(axes[1][1], streams, "gap_error_p99_s", "Error of the gaps between tokens, p99", MOST_EVENT_ERROR_S)
    lates = {client: max(_LEAST_MS, row["late_p99_s"] * 1e3) for client, row in result["punctuality"].items()}
    _bars(
        axes[1][2], lates, "Poisson, 500 requests/s: arrival after the\nmoment due, p99", "ms (log)", "",
        bar=_ms(MOST_LATE_S), log=True,
    )  # fmt: skip
    figure.suptitle(
        "The load generator beside plain clients, one run, same server and load "
        f"({result['server']} server)\n{title_of(result['machine'])}, {result['at'][:10]}",
        fontsize=13,
    )
    return _save(figure, path)


def draw_calibration(result: dict[str, Any], path: Path) -> Path:
    """Error against the number of streams; the bars drawn; the path."""
    figure, axes = plt.subplots(1, 2, figsize=(15, 6.5))
    for axis in axes:
        axis.set_xscale("log")
        axis.set_yscale("log")
    rows = result["replayed"]
    streams = [row["streams"] for row in rows]
    lines = (("ttft_error_p99_s", "TTFT", "o", MOST_TTFT_ERROR_S),
             ("event_gap_error_p99_s", "gap between tokens", "s", MOST_EVENT_ERROR_S))  # fmt: skip
    for name, label, marker, limit_s in lines:
        limit_ms = _ms(limit_s)
        (line,) = axes[0].plot(streams, [_ms(row[name]) for row in rows], marker=marker, label=f"{label}, p99")
        axes[0].axhline(limit_ms, color=line.get_color(), linestyle="--", linewidth=1)
        axes[0].text(
            streams[0], limit_ms * 1.08, f"bar for {label}: {limit_ms:g} ms", color=line.get_color(), fontsize=9
        )
    axes[0].plot(streams, [abs(_ms(row["ttft_bias_s"])) for row in rows], marker="^", label="TTFT, bias (absolute)")
    for name, label, marker in (
        ("tls", f"over TLS (bar {_ms(MOST_TLS_TTFT_ERROR_S):g} ms)", "*"),
        ("hogged", "beside a core hog", "X"),
    ):
        trial = result[name]
        axes[0].plot([trial["streams"]], [_ms(trial["ttft_error_p99_s"])], marker=marker, markersize=11, linestyle="",
                     label=f"TTFT, p99, {label}")  # fmt: skip
    axes[0].set_xticks(streams)
    axes[0].set_title("Replayed streams: first token after 200 ms, then one every 20 ms")
    rows = result["simulated"]
    streams = [row["streams"] for row in rows]
    for name, label, marker in (("ttft_error_p99_s", "TTFT", "o"), ("event_error_p99_s", "token stamp", "s")):
        axes[1].plot(streams, [_ms(row[name]) for row in rows], marker=marker, label=f"{label}, p99")
    axes[1].axhline(2.0, color="black", linestyle="--", linewidth=1)
    axes[1].text(streams[0], 2.1, "bar: 2 ms", fontsize=9)
    axes[1].set_xticks(streams)
    axes[1].set_title("Simulated vLLM, a burst of 128 in / 128 out")
    for axis in axes:
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.yaxis.set_major_formatter("{x:,g}")
        axis.minorticks_off()
        axis.set_xlabel("streams at once (log)")
        axis.set_ylabel("error against the truth, ms (log)")
        axis.grid(True, which="major", alpha=0.35)
        axis.legend(fontsize=9)
    figure.suptitle(
        f"Error of the client's records against known truth\n{title_of(result['machine'])}, {result['at'][:10]}"
    )
    return _save(figure, path)


def _bars(
    axis: Axes, values: dict[str, float], title: str, unit: str, shown: str, *,
    bar: float | None = None, log: bool = False,
) -> None:  # fmt: skip
    names = list(values)
    drawn = axis.bar(range(len(names)), list(values.values()), color=[COLOURS.get(n, "#6fa3d8") for n in names])
    axis.bar_label(drawn, [shown.format(v) if shown else _short(v) for v in values.values()], padding=2)
    axis.set_xticks(range(len(names)), [name.replace(" process ", " process\n") for name in names])
    if log:
        axis.set_yscale("log")
    _frame(axis, title, unit, bar, log=log)


def _pairs(axis: Axes, found: dict[str, Any], name: str, title: str, most_s: float) -> None:
    """One bar a client for each number of streams, on a log axis."""
    streams = list(next(iter(found.values())))
    width = 0.8 / len(found)
    for k, (client, rows) in enumerate(found.items()):
        heights = [max(_LEAST_MS, _ms(rows[n][name])) for n in streams]
        places = [x + (k - (len(found) - 1) / 2) * width for x in range(len(streams))]
        drawn = axis.bar(places, heights, width, color=COLOURS.get(client), label=client)
        axis.bar_label(drawn, [_short(height) for height in heights], fontsize=9, padding=2)
    axis.set_xticks(range(len(streams)), [f"{int(n):,} streams" for n in streams])
    axis.set_yscale("log")
    axis.legend(fontsize=9)
    _frame(axis, title, "ms (log)", _ms(most_s), log=True)


def _frame(axis: Axes, title: str, unit: str, bar: float | None, *, log: bool) -> None:
    if bar is not None:
        axis.axhline(bar, color="black", linestyle="--", linewidth=1)
        shown = f"bar: {bar:g} {unit.rpartition(', ')[2].partition(' ')[0]}"
        axis.annotate(shown, (0.5, bar), xycoords=("axes fraction", "data"), ha="center", va="center", fontsize=9,
                      backgroundcolor=(1, 1, 1, 0.85))  # fmt: skip
    high = axis.get_ylim()[1]
    if log:
        axis.set_ylim(_LEAST_MS, high * 20)
        axis.yaxis.set_major_formatter("{x:,g}")
    else:
        axis.set_ylim(0, max(high, (bar or 0) * 1.05) * 1.12)
        axis.yaxis.set_major_formatter("{x:,.0f}" if high > 10 else "{x:.1f}")
    axis.set_title(title, fontsize=11)
    axis.set_ylabel(unit)
    axis.grid(True, axis="y", alpha=0.3)


def _short(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ms(seconds: float | None) -> float:
    return float("nan") if seconds is None else seconds * 1e3


def _save(figure: Any, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
