"""What the bench of the client found, as tables on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console
from rich.table import Table


def print_tables(console: Console, result: dict[str, Any]) -> None:
    """Every section that was measured."""
    makers: dict[str, Callable[[Any], Table]] = {
        "cost": _cost,
        "precision": _precision,
        "punctuality": _punctuality,
        "arrivals": _arrivals,
        "memory": _memory,
        "processes": _processes,
    }
    for section, make in makers.items():
        if section in result:
            console.print(make(result[section]))


def _table(title: str, headings: Iterable[str]) -> Table:
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _ms(seconds: float | None, digits: int = 2) -> str:
    return "–" if seconds is None else f"{seconds * 1e3:.{digits}f}"


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _shares(row: dict[str, Any], name: str) -> str:
    """Of the whole process and, for ours, of the load process in its window alone: the others decode as they send."""
    while_sending = row.get(f"sending_{name}")
    return f"{row[name]:.0%}" + ("" if while_sending is None else f" ({while_sending:.0%})")


def _cost(found: dict[str, Any]) -> Table:
    table = _table(
        "Cost: 2,000 requests × 128 tokens, 100 in flight, full speed, one token a write (medians)",
        ("client", "thousand tokens / CPU-s", "× httpx", "× C", "load process alone", "× C", "one request: wall s",
         "its peak MB", "client core (while sending)", "server core (while sending)", "limited by"),
    )  # fmt: skip
    for client, row in found.items():
        alone = row.get("load_tokens_per_cpu_s")
        table.add_row(
            client, f"{row['tokens_per_cpu_s'] / 1e3:.1f}", _ratio(row.get("beside_httpx")),
            _ratio(row.get("beside_C")), "–" if alone is None else f"{alone / 1e3:.1f}",
            _ratio(row.get("load_beside_C")), f"{row['one_wall_s']:.2f}",
            f"{row['one_peak_bytes'] / 1e6:.0f}", _shares(row, "client_share"), _shares(row, "server_share"),
            row["limited_by"],
        )  # fmt: skip
    return table


def _precision(found: dict[str, Any]) -> Table:
    table = _table(
        "Precision: all streams at once, first token after 200 ms, then one every 20 ms; ms (medians)",
        ("client", "streams", "TTFT p50", "TTFT p99", "TTFT error p50", "TTFT error p99", "gap error p50",
         "gap error p99", "send spread", "complete", "validity"),
    )  # fmt: skip
    for client, by_streams in found.items():
        for streams, row in by_streams.items():
            errors = (row["ttft_error_p50_s"], row["ttft_error_p99_s"], row["gap_error_p50_s"], row["gap_error_p99_s"])
            table.add_row(
                client, streams, _ms(row["ttft_p50_s"]), _ms(row["ttft_p99_s"]), *(_ms(e, 3) for e in errors),
                _ms(row["send_spread_s"]), f"{row['complete']:.0f}/{row['requests']:.0f}", row["validity"],
            )  # fmt: skip
    return table


def _punctuality(found: dict[str, Any]) -> Table:
    table = _table(
        "Punctuality: Poisson, 500 requests/s, 2,000 of them; arrival at the server after the moment due, ms",
        ("client", "late p50", "late p99", "late max", "dispersion planned", "dispersion as arrived", "server core",
         "validity"),
    )  # fmt: skip
    for client, row in found.items():
        lates = (row["late_p50_s"], row["late_p99_s"], row["late_max_s"])
        table.add_row(
            client, *(_ms(late, 3) for late in lates), _ratio(row["dispersion_planned"]), _ratio(row["dispersion"]),
            f"{row['server_share']:.0%}", row["validity"],
        )  # fmt: skip
    return table


def _arrivals(found: list[dict[str, Any]]) -> Table:
    table = _table(
        "Poisson as it arrived: 2,400 requests at 60/s a seed, ten seeds at once, bins of 0.1 s",
        (
            "processes",
            "seeds",
            "mean dispersion planned",
            "as arrived",
            "its standard error",
            "mean lag-1 correlation",
            "late p99, ms (median)",
        ),
    )
    for row in found:
        spreads = (_ratio(row[name]) for name in ("dispersion_planned", "dispersion", "dispersion_error"))
        figures = (*spreads, f"{row['gap_correlation']:+.4f}", _ms(row["late_p99_s"], 3))
        table.add_row(str(row["processes"]), str(row["seeds"]), *figures)
    return table


def _memory(found: dict[str, Any]) -> Table:
    table = _table(
        "Memory of the load process: twice the tokens", ("as", "tokens", "peak MB", "tokens", "peak MB", "ratio")
    )
    for way, row in found.items():
        cells = [cell for run in row["runs"] for cell in (f"{run['tokens']:,}", f"{run['peak_bytes'] / 1e6:.2f}")]
        table.add_row(f"{way} answers", *cells, f"{row['ratio']:.3f}")
    return table


def _processes(found: list[dict[str, Any]]) -> Table:
    table = _table(
        "Load processes at full speed (medians)",
        ("processes", "thousand tokens/s", "CPU of all", "of the busiest", "of the server", "limited by"),
    )
    for row in found:
        shares = (f"{row[name]:.0%}" for name in ("client_share", "busiest_share", "server_share"))
        table.add_row(str(row["processes"]), f"{row['tokens_per_s'] / 1e3:.0f}", *shares, row["limited_by"])
    return table
