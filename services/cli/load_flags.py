"""The flags of `enginebench run` that say how a load is sent, and the arrival they stand for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench_runner.plan.spec import WorkloadSpec

ARRIVALS = ("burst", "closed_loop", "constant", "poisson", "gamma", "ramp", "trace")
_RATED = ("constant", "poisson", "gamma")
#: flag -> the arrivals it belongs to
_BELONGS = {
    "concurrency": ("closed_loop",),
    "think_time": ("closed_loop",),
    "think_time_kind": ("closed_loop",),
    "rate": _RATED,
    "burstiness": ("gamma",),
    "ramp": ("ramp",),
    "steps": ("ramp",),
    "spacing": ("ramp",),
    "trace": ("trace",),
    "trace_format": ("trace",),
    "time_scale": ("trace",),
    "max_concurrency": (*_RATED, "ramp", "trace"),
    "duration": tuple(kind for kind in ARRIVALS if kind != "burst"),
    "ramp_up": tuple(kind for kind in ARRIVALS if kind != "burst"),
}


class WrongUse(Exception):
    """The command line asks for something that is not possible; exit code 2."""


def add_load_flags(load: argparse._ArgumentGroup) -> None:
    """How requests are sent; each is `None` where it is not given."""
    load.add_argument("--arrival", choices=ARRIVALS, help="default: what the other flags ask for, else the workload's")
    load.add_argument(
        "--concurrency", type=int, metavar="C", help="closed loop with C requests in flight; the cap of an open one"
    )
    load.add_argument("--think-time", type=float, metavar="S", help="closed loop: pause of a slot between two requests")
    load.add_argument("--think-time-kind", choices=("fixed", "exponential"), help="exponential: S is the mean")
    load.add_argument("--rate", type=float, metavar="R", help="open loop: requests a second (Poisson unless --arrival)")
    load.add_argument("--burstiness", type=float, metavar="B", help="gamma: 1 is Poisson, below it comes in bursts")
    load.add_argument("--ramp", metavar="FROM:TO:SECONDS", help="open loop whose rate goes from one to another")
    load.add_argument("--steps", metavar="RATE:SECONDS,…", help="open loop that holds each rate for a while")
    load.add_argument("--spacing", choices=("poisson", "even"), help="of --ramp and --steps; default: poisson")
    load.add_argument("--trace", metavar="FILE", help="open loop: moments and lengths of a recorded load")
    load.add_argument("--trace-format", choices=("offsets", "mooncake", "azure"), help="default: offsets (own JSONL)")
    load.add_argument("--time-scale", type=float, metavar="X", help="of --trace: 0.5 replays twice as fast")
    load.add_argument("--max-concurrency", type=int, metavar="C", help="the same, of an open loop alone")
    load.add_argument(
        "--duration", type=float, metavar="S", help="send for S seconds; --requests is then the most sent"
    )
    load.add_argument("--ramp-up", type=float, metavar="S", help="first S seconds are sent and not measured")


def sending_of(flags: argparse.Namespace, workload: WorkloadSpec) -> dict[str, Any]:
    """`arrival`, `duration_s` and `ramp_up_s` as a workload file has them, those that the flags change.

    Args:
        flags: with all of `add_load_flags`, and `requests`.
        workload: what they are laid over.

    Raises:
        WrongUse: flags that do not go together, or that are no numbers.
        DatasetError: a trace that cannot be read.
    """
    kind = _kind(flags, workload, _given(flags))
    flags = _cap_said(flags, kind)
    given = _given(flags)
    for name in sorted(given):
        if kind not in _BELONGS[name]:
            raise WrongUse(
                f"{_flag(name)} does not go with a {kind} arrival; it belongs to {', '.join(_BELONGS[name])}"
            )
    sending: dict[str, Any] = {}
    if flags.arrival is not None or kind != workload.arrival.kind or given - {"duration", "ramp_up"}:
        sending["arrival"] = _arrival(kind, flags, workload)
    duration_s = flags.duration
    if {"ramp", "steps"} & given and duration_s is None and flags.requests is None:
        duration_s = _length_s(sending["arrival"])
    sending |= {"duration_s": duration_s} if duration_s is not None else {}
    sending |= {"ramp_up_s": flags.ramp_up} if flags.ramp_up is not None else {}
    if kind == "burst" and workload.arrival.kind != "burst":
        sending |= {"duration_s": None, "ramp_up_s": None}
    if flags.requests is None and flags.duration is not None and kind == "closed_loop":
        raise WrongUse("--duration of a closed loop needs --requests N: the most that are sent, made ready beforehand")
    return sending


def trace_rows(sending: dict[str, Any]) -> int | None:
    """How many requests a trace has, within the duration; `None` where nothing is replayed.

    Raises:
        DatasetError: it cannot be read.
    """
    from bench_runner.plan.spec import Trace
    from bench_runner.plan.trace import read_trace

    arrival = sending.get("arrival")
    if arrival is None or arrival["kind"] != "trace":
        return None
    return len(read_trace(Trace.model_validate(arrival), duration_s=sending.get("duration_s")))


def _given(flags: argparse.Namespace) -> set[str]:
    return {name for name in _BELONGS if getattr(flags, name) is not None}


def _cap_said(flags: argparse.Namespace, kind: str) -> argparse.Namespace:
    """`--concurrency` of an open loop is its cap."""
    if flags.concurrency is None or kind not in _BELONGS["max_concurrency"]:
        return flags
    if flags.max_concurrency is not None:
        raise WrongUse("--concurrency and --max-concurrency both cap an open loop; give one")
    return argparse.Namespace(**(vars(flags) | {"concurrency": None, "max_concurrency": flags.concurrency}))


def _kind(flags: argparse.Namespace, workload: WorkloadSpec, given: set[str]) -> str:
    """The arrival that is meant: as said, or as the most telling flag asks for."""
    if flags.arrival is not None:
        return str(flags.arrival)
    for name, kind in (
        ("trace", "trace"),
        ("ramp", "ramp"),
        ("steps", "ramp"),
        ("burstiness", "gamma"),
        ("rate", workload.arrival.kind if workload.arrival.kind in _RATED else "poisson"),
        ("concurrency", "closed_loop"),
    ):
        if name in given:
            return kind
    return workload.arrival.kind


def _arrival(kind: str, flags: argparse.Namespace, workload: WorkloadSpec) -> dict[str, Any]:
    """The arrival as a workload file has it; what a flag does not say stays as the workload has it."""
    same = workload.arrival.kind == kind
    body = workload.arrival.model_dump() if same else {"kind": kind}
    fields = {
        "concurrency": flags.concurrency,
        "think_time_s": flags.think_time,
        "think_time": flags.think_time_kind,
        "rate_per_s": flags.rate,
        "burstiness": flags.burstiness,
        "spacing": flags.spacing,
        "path": flags.trace,
        "format": flags.trace_format,
        "time_scale": flags.time_scale,
        "max_concurrency": flags.max_concurrency,
    }
    body |= {name: value for name, value in fields.items() if value is not None}
    if flags.ramp is not None and flags.steps is not None:
        raise WrongUse("--ramp and --steps are two ways to say how the rate changes; give one")
    if flags.ramp is not None:
        low, high, length_s = _numbers("--ramp", flags.ramp, "FROM:TO:SECONDS")
        body |= {"from_rate_per_s": low, "to_rate_per_s": high, "duration_s": length_s, "steps": None}
    if flags.steps is not None:
        steps = [_numbers("--steps", step, "RATE:SECONDS") for step in flags.steps.split(",")]
        body |= {"steps": [{"rate_per_s": rate, "duration_s": length_s} for rate, length_s in steps]}
        body |= {"from_rate_per_s": None, "to_rate_per_s": None, "duration_s": None}
    for needed, flag, kinds in (
        ("concurrency", "--concurrency C", ("closed_loop",)),
        ("rate_per_s", "--rate R", _RATED),
        ("burstiness", "--burstiness B", ("gamma",)),
        ("path", "--trace FILE", ("trace",)),
    ):
        if kind in kinds and body.get(needed) is None:
            raise WrongUse(f"--arrival {kind} needs {flag}")
    if kind == "ramp" and body.get("steps") is None and body.get("duration_s") is None:
        raise WrongUse("--arrival ramp needs --ramp FROM:TO:SECONDS or --steps RATE:SECONDS,…")
    return body


def _length_s(arrival: dict[str, Any]) -> float:
    """How long a ramp goes on before its last rate holds."""
    if arrival.get("steps"):
        return float(sum(step["duration_s"] for step in arrival["steps"]))
    return float(arrival["duration_s"])


def _numbers(flag: str, text: str, form: str) -> list[float]:
    parts = text.split(":")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) != form.count(":") + 1:
        raise WrongUse(f"{flag}: {text!r} is not {form}, in numbers")
    return numbers


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
