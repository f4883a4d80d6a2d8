"""A RunResult for a terminal. Every figure is in the result, or the share of two that are; units are put beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench_runner.measure.metrics import METRICS, Metric

_STATE_STYLES = {"VALID": "bold green", "INVALID": "bold red", "INCONCLUSIVE": "bold yellow"}
_FIGURES = ("mean", "p50", "p90", "p95", "p99", "min", "max")
#: Lines shown of the engine's log: of a run that is VALID, and of one that is not.
_LOG_LINES = {True: 3, False: 20}
#: Latencies are shown in milliseconds up to here.
_MS_UP_TO_S = 10.0
NOTHING = "–"


def print_report(result: Mapping[str, Any], console: Console | None = None) -> None:
    """The report on a terminal, or as plain text where standard output is none."""
    (console or Console()).print(render(result))


def to_text(result: Mapping[str, Any], width: int = 120) -> str:
    """The report as plain text, without colours."""
    console = Console(width=width, color_system=None, force_terminal=False, legacy_windows=False)
    with console.capture() as capture:
        console.print(render(result))
    return capture.get()


def render(result: Mapping[str, Any]) -> Group:
    """The report of one RunResult, given as its JSON."""
    summary = result["summary"]
    parts: list[RenderableType] = [_heading(result), _validity(result["validity"])]
    if result.get("error"):
        parts.append(_line(f"{result['outcome']}: {result['error']}", "red"))
    if summary:
        simulated = bool(result["environment"].get("simulated"))
        parts.append(_counts(summary, result["failures"]))
        if summary.get("window"):
            parts.append(_window(summary["window"]))
        parts += [_numbers(summary, simulated), *_distributions(summary)]
    server = (result.get("telemetry") or {}).get("server")
    if server:
        parts.append(_as_the_server_has_it(server))
    if result.get("calibration"):
        parts.append(_own_error(result["calibration"]))
    parts += [_line(f"note: {note}") for note in result.get("notes") or ()]
    if log := result["environment"].get("engine_log"):
        parts.append(_engine_log(log, _LOG_LINES[result["validity"]["state"] == "VALID"]))
    return Group(*parts)


def _line(text: str, style: str = "") -> Text:
    """One line; what an engine wrote may hold control characters, which a terminal would obey."""
    return Text("".join(c if c.isprintable() else "�" for c in text), style=style)


def _heading(result: Mapping[str, Any]) -> Text:
    target, workload = result["spec"]["target"], result["spec"]["workload"]
    environment = result["environment"]
    version = (environment.get("server") or {}).get("version")
    parts = [
        f"{target['engine']} {version}" if version else target["engine"],
        target["model"],
        workload["name"],
        target.get("hardware") or "hardware not stated",
        target.get("precision") or "precision not stated",
    ]
    heading = Text()
    if environment.get("simulated"):
        heading.append("SIMULATED: not a measurement of a real engine\n", style="bold magenta")
    return heading.append_text(_line(" · ".join(parts), "bold"))


def _validity(validity: Mapping[str, Any]) -> Text:
    state = validity["state"]
    text = Text(state, style=_STATE_STYLES.get(state, "bold"))
    for reason in validity["reasons"]:
        text.append("\n  ")
        text.append_text(_line(f"{reason['severity']}: {reason['message']} [{reason['code']}]"))
    return text


def _counts(summary: Mapping[str, Any], failures: Mapping[str, int]) -> Text:
    lines = [f"requests {_whole(summary.get('requests'))}, successes {_whole(summary.get('successes'))}"]
    if failures:
        lines[0] += ", failed: " + ", ".join(f"{count} {kind}" for kind, count in failures.items())
    for way, source in (("input", "input_token_count_source"), ("output", "token_count_source")):
        counts = summary.get("token_counts") or {}
        told = ", ".join(f"{who} {_whole((counts.get(who) or {}).get(way))}" for who in ("planned", "engine", "local"))
        total = _whole(summary.get(f"total_{way}_tokens"))
        lines.append(f"{way} tokens {total} (counted by: {summary.get(source) or 'nobody'}; {told})")
    return _join(lines)


def _window(window: Mapping[str, Any]) -> Text:
    """What of the run was measured, in its own seconds from the start, and what was left out of the figures."""
    start_s, length_s, drain_s = window["ramp_up_s"], window["length_s"], window["drain_s"]
    whole_s = start_s + length_s + drain_s
    share = f" ({length_s / whole_s:.1%} of the run)" if whole_s else ""
    lines = [
        f"window {start_s:,.2f} to {start_s + length_s:,.2f} s{share}: {start_s:,.2f} s of ramp-up before it, "
        f"{drain_s:,.2f} s of drain after it"
    ]
    if window["left_out_requests"]:
        lines.append(
            f"sent outside it, so in no count and no latency: {_whole(window['left_out_requests'])} requests, "
            f"{_whole(window['left_out_failures'])} of them failed"
        )
    return _join(lines)


def _as_the_server_has_it(server: Mapping[str, Any]) -> Text:
    """The engine's own times and cache, beside the client's; `None` is a thing that its metrics do not tell."""
    usage = [server[f"kv_cache_usage_{which}_ratio"] for which in ("mean", "max")]
    hits, queried = (server[f"prefix_cache_{which}_tokens"] for which in ("hit", "queried"))
    figures = {
        "time to first token": _server_time(server["ttft_mean_s"], server["ttft_requests"]),
        "queue time": _server_time(server["queue_mean_s"], server["queue_requests"]),
        "KV cache": None if usage[0] is None else f"{usage[0]:.1%} full on average and {usage[1]:.1%} at most",
        "prefix cache": None if hits is None else f"had {hits:,} of the {_whole(queried)} tokens looked up",
        "preemptions": None if server["preemptions"] is None else _whole(server["preemptions"]),
    }
    told = ", ".join(f"{name} {figure}" for name, figure in figures.items() if figure is not None)
    untold = ", ".join(name for name, figure in figures.items() if figure is None)
    return _line(
        "; ".join(["as the server has it: " + (told or NOTHING), *([f"not told: {untold}"] if untold else [])])
    )


def _server_time(mean_s: float | None, requests: int | None) -> str | None:
    """`requests` may be 0, and then there is no mean."""
    if requests is None:
        return None
    return f"{NOTHING if mean_s is None else f'{mean_s * 1e3:,.2f} ms'} (mean of {requests:,})"


def _own_error(calibration: Mapping[str, Any]) -> Text:
    """What the client itself was off by under this load, and which figures are no larger than that."""
    words = [
        f"{name} {error['noise_floor_s'] * 1e3:.3f} ms (median {error['bias_s'] * 1e3:+.3f})"
        for name, error in (("TTFT", calibration["ttft"]), ("token events", calibration["event"]))
    ]
    lines = [f"the client's own error, p99 against a known answer: {', '.join(words)}"]
    for key, words_of in (("below_noise_floor", "median"), ("spread_below_noise_floor", "spread")):
        if calibration[key]:
            lines.append(f"{words_of} below the client's own error, so not claimed: {', '.join(calibration[key])}")
    return _join(lines)


def _engine_log(log: str, most: int) -> Text:
    lines = log.splitlines()
    kept = "" if len(lines) <= most else f", the last {most} of {len(lines)} lines that are kept"
    return _join([f"the end of the engine's log{kept}:", *(f"  {line}" for line in lines[-most:])])


def _join(lines: list[str]) -> Text:
    return Text("\n").join(_line(line) for line in lines)


def _whole(count: int | None) -> str:
    return NOTHING if count is None else f"{count:,}"


def _numbers(summary: Mapping[str, Any], simulated: bool) -> Table:
    table = Table("metric", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("value", justify="right")
    table.add_column("unit")
    for name, metric in METRICS.items():
        if metric.kind == "number" and summary.get(name) is not None:
            value, unit = _value(metric, summary[name])
            # the simulation's step times are made from the roofline: the ratio was put in, not found out
            given = simulated and name == "roofline_ratio"
            table.add_row(_label(metric), value, f"{unit} (an input of the simulation)" if given else unit)
    return table


def _label(metric: Metric) -> str:
    """The metric's name; a latency without its unit, which stands beside the figures and may be milliseconds."""
    return metric.name.removesuffix("_s") if metric.unit == "s" else metric.name


def _value(metric: Metric, value: float) -> tuple[str, str]:
    match metric.unit:
        case "ratio":
            return f"{value:.1%}".rstrip("%"), "%"
        case "s":
            return f"{value:,.3f}", "s"
        case unit:
            return _figure(value), unit


def _figure(value: float) -> str:
    """Two decimals, one above a thousand; three digits below a tenth, as a token's joules are."""
    size = abs(value)
    return f"{value:,.1f}" if size >= 1000 else f"{value:.2f}" if size >= 0.1 or not size else f"{value:.3g}"


def _short(value: float) -> str:
    """About four digits, for a table with many columns."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 1000 else f"{value:.1f}" if size >= 100 else f"{value:.2f}"


def _distributions(summary: Mapping[str, Any]) -> list[RenderableType]:
    known = [(m, summary[name]) for name, m in METRICS.items() if m.kind == "distribution" and summary.get(name)]
    if not known:
        return []
    # On a narrow terminal the words are folded, never the figures cut.
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("metric", overflow="fold")
    table.add_column("unit", overflow="fold")
    # The 99.9th wants thousands of requests: a column only where one can claim it.
    claims = any(found["supported"].get("p999") for _, found in known)
    figures = (*_FIGURES[:-2], *(["p999"] if claims else []), *_FIGURES[-2:])
    for heading in ("n", *(figure.replace("p999", "p99.9") for figure in figures)):
        table.add_column(heading, justify="right", no_wrap=True)
    unclaimed = False
    for metric, found in known:
        unit, factor = metric.unit, 1.0
        if unit == "s" and found["max"] < _MS_UP_TO_S:
            unit, factor = "ms", 1e3
        weak = {name for name, claimed in found["supported"].items() if not claimed}
        unclaimed = unclaimed or not weak.isdisjoint(figures)
        cells = [_short(found[name] * factor) + ("*" if name in weak else "") for name in figures]
        table.add_row(_label(metric), unit, _whole(found["n"]), *cells)
    if not unclaimed:
        return [table]
    footnote = "* described, not claimed: too few independent requests for this percentile (a burst is one sample)"
    return [table, _line(footnote, "dim")]
