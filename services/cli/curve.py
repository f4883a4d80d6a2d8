"""Sweeps and searches on the command line: the flags that ask for them, and the tables that show what came."""

from __future__ import annotations

import argparse
import math
from typing import Any

from services.cli.service import Refused, print_table, shown

_LINE = "LOW:HIGH:STEPS"
_VALUES = f"A,B,…|{_LINE}"
_SPAN = "LOW:HIGH"
#: Limits of --slo -> fields of an SLO.
_LIMITS = {"ttft": "ttft_s", "tpot": "tpot_s", "e2e": "e2e_s"}
#: Head of the first column of a curve and of a search.
_HEADS = {"concurrency": "concurrency", "rate_per_s": "requests/s"}


def add_axis_flags(job: argparse.ArgumentParser) -> None:
    """`--sweep-…`, `--search-…` and what goes with them; each is `None` where it is not given."""
    along = job.add_argument_group("along an axis")
    along.add_argument("--sweep-concurrency", metavar=_VALUES, help="each workload as a closed loop of each size")
    along.add_argument("--sweep-rate", metavar=_VALUES, help="each workload as an open loop at each rate (requests/s)")
    along.add_argument("--search-concurrency", metavar=_SPAN, help="the highest concurrency that meets --slo")
    along.add_argument("--search-rate", metavar=_SPAN, help="the highest rate that meets --slo")
    along.add_argument(
        "--slo",
        metavar="LIMIT=S,…",
        help="ttft, tpot and e2e in seconds, such as ttft=0.5,tpot=0.05; of a search, or of every run",
    )
    along.add_argument(
        "--attainment", type=float, metavar="P", help="search: share of requests that must meet it: 0.99"
    )
    along.add_argument("--confidence", type=float, metavar="P", help="search: that all it says holds: 0.95")
    along.add_argument("--resolution", type=float, metavar="P", help="search: how close it comes: 0.05")
    along.add_argument("--arrival", choices=("constant", "poisson", "gamma"), help="of rates; default: the workload's")
    along.add_argument("--burstiness", type=float, metavar="B", help="of gamma arrivals")
    along.add_argument("--least-seconds", type=float, metavar="S", help="a rate is held for at least so long: 30")
    along.add_argument("--waves", type=int, metavar="N", help="a closed loop fills its slots at least so often: 10")


def axis_of(flags: argparse.Namespace) -> dict[str, Any]:
    """`sweep`, `search` and `slo` of a job, as the flags have them; what is not given is left out.

    Raises:
        Refused: flags that do not go together, or that are no numbers.
    """
    asked = [
        (kind, axis, text)
        for kind, axis, text in (
            ("sweep", "concurrency", flags.sweep_concurrency),
            ("sweep", "rate_per_s", flags.sweep_rate),
            ("search", "concurrency", flags.search_concurrency),
            ("search", "rate_per_s", flags.search_rate),
        )
        if text is not None
    ]
    if len(asked) > 1:
        raise Refused("give one of --sweep-concurrency, --sweep-rate, --search-concurrency and --search-rate")
    slo = {} if flags.slo is None else {"slo": _slo(flags.slo)}
    shape = {"arrival": flags.arrival, "burstiness": flags.burstiness, "least_s": flags.least_seconds}
    shape = {name: value for name, value in (shape | {"waves": flags.waves}).items() if value is not None}
    claim = {name: getattr(flags, name) for name in ("attainment", "confidence", "resolution")}
    claim = {name: value for name, value in claim.items() if value is not None}
    match asked:
        case [("search", axis, text)]:
            if not slo:
                raise Refused("a search needs --slo, such as --slo ttft=0.5,tpot=0.05")
            low, high = _numbers(text, _SPAN)
            return {"search": {"axis": axis, "low": low, "high": high, **slo, **claim, **shape}}
        case [(_, axis, text)] if not claim:
            return {"sweep": {"axis": axis, **_values(text), **shape}, **slo}
        case _ if claim:
            raise Refused(
                "--attainment, --confidence and --resolution belong to --search-rate and --search-concurrency"
            )
        case _ if shape:
            raise Refused("--arrival, --burstiness, --least-seconds and --waves belong to a sweep or a search")
        case _:
            return slo


def _values(text: str) -> dict[str, Any]:
    if ":" in text:
        low, high, steps = _numbers(text, _LINE)
        if steps != int(steps):
            raise Refused(f"{text!r}: STEPS is a whole number of points")
        return {"low": low, "high": high, "steps": int(steps)}
    return {"values": _floats(text, ",", _VALUES)}


def _numbers(text: str, form: str) -> list[float]:
    numbers = _floats(text, ":", form)
    if len(numbers) != form.count(":") + 1:
        raise Refused(f"{text!r} is not {form}, in numbers")
    return numbers


def _floats(text: str, between: str, form: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(between)]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise Refused(f"{text!r} is not {form}, in numbers")
    return numbers


def _slo(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        try:
            found[_LIMITS[name.strip()]] = float(value)
        except (KeyError, ValueError):
            raise Refused(f"--slo: {part!r} is not ttft=S, tpot=S or e2e=S, in seconds") from None
    return found


def print_curve(curve: dict[str, Any]) -> None:
    """A table for each target × workload, a line a point; then the runs that do not count, with their reasons."""
    head = _HEADS[curve["axis"]]
    for series in curve["series"]:
        marked = " (simulated)" if series["simulated"] else ""
        rows = [
            (
                f"{point['value']:.10g}",
                f"{point['valid']} of {point['runs']}",
                *(_cell(point[name], digits, scale) for name, digits, scale in _COLUMNS.values()),
            )
            for point in series["points"]
        ]
        print_table(f"{series['target']}{marked} × {series['workload']}", (head, "valid", *_COLUMNS), rows)
        for point in series["points"]:
            for run in point["left_out"]:
                print(f"run {run['run_id']} ({point['workload']}): {run['state']}: {run['why']}")
    if any(not point["p99_supported"] and point["valid"] for series in curve["series"] for point in series["points"]):
        print("p99 of points with fewer than 459 requests a run is shown, and supported by too few to be claimed")


#: heading -> field of a point, digits, scale
_COLUMNS = {
    "output tok/s": ("output_tokens_per_s", 1, 1.0),
    "per GPU tok/s": ("output_tokens_per_s_per_gpu", 1, 1.0),
    "per user tok/s": ("tokens_per_s_per_user", 1, 1.0),
    "TTFT p50 ms": ("ttft_p50_s", 1, 1000.0),
    "TTFT p99 ms": ("ttft_p99_s", 1, 1000.0),
    "TPOT p50 ms": ("tpot_p50_s", 2, 1000.0),
    "TPOT p99 ms": ("tpot_p99_s", 2, 1000.0),
}


def _cell(spread: dict[str, Any] | None, digits: int, scale: float) -> str | None:
    """The median, and half the range of the repeats where there are several."""
    if spread is None:
        return None
    text = shown(spread["median"], digits, scale)
    half = (spread["max"] - spread["min"]) / 2
    return text if spread["n"] < 2 else f"{text} ± {shown(half, digits, scale)}"


def print_search(search: dict[str, Any]) -> None:
    """What each value showed, and the verdict in words."""
    columns = (_HEADS[search["axis"]], "said", "runs", "met", "requests", "true share ≥", "true share ≤")
    rows = [
        (
            f"{value['value']:.10g}",
            value["said"],
            f"{value['valid']} of {value['runs']} valid",
            value["met"],
            value["requests"],
            f"{value['attainment_low']:.4f}",
            f"{value['attainment_high']:.4f}",
        )
        for value in search["values"]
    ]
    title = f"search {search['target']} × {search['workload']}: {search['state']}, {search['probes']} runs"
    print_table(title, columns, rows)
    print(search["words"])
