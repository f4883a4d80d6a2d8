"""Like is compared with like, along one declared axis; else "not comparable" with the fields that differ. Pure.

Only VALID runs are compared. Each run is one sample, or each start of an engine where runs are bursts of starts: sides
are medians over their samples, the first side is the baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import ValidationError

from bench_runner.errors import SpecError
from bench_runner.fairness import NOT_KNOWN, Asymmetry, told_apart, treatment
from bench_runner.likeness import AXES, Fields, axis_value, differ, fields_of
from bench_runner.measure.metrics import METRICS
from bench_runner.measure.nesting import start_of
from bench_runner.measure.repeats import metric_of, spreads_of
from bench_runner.measure.stats import Spread
from bench_runner.plan.spec import RunSpec
from engines.errors import UnknownEngine

#: Samples a side from which ranges that lie apart give a verdict. By chance alone two sides of 3 lie apart in one of 10
#: orders, two of 5 in one of 126.
LEAST_SAMPLES = 3

#: What still means something where the model stops when it likes: nothing that divides tokens by the run's time.
NATURAL_METRICS = {
    "ttft_s",
    "tpot_s",
    "tokens_per_s_per_user",
    "itl_s",
    "event_gap_s",
    "scheduled_ttft_s",
    "connect_s",
    "send_lag_s",
    "failure_rate",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A field in which runs differ that must not."""

    field: str
    #: label of a run -> its value
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A run that is not compared, because it is not VALID."""

    run: str
    state: str
    #: reason codes
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of one side."""

    spread: Spread
    #: median ÷ the baseline's median; `None` where that is 0
    ratio: float | None
    #: the ratio's range, from the extremes of both sides; `None` with one sample a side, or a baseline that touches 0
    ratio_range: tuple[float, float] | None
    #: "better", "same" or "worse" than the baseline; `None` below LEAST_SAMPLES a side, or where neither way is better
    verdict: str | None


@dataclass(frozen=True, slots=True)
class Side:
    """The runs that share one value of the axis."""

    value: str
    runs: tuple[str, ...]
    #: starts of the engine that the runs were bursts of, which are its samples; `None`: every run is one
    starts: int | None = None
    #: figure, such as "output_tokens_per_s" or "ttft_s.p50" -> what it was; empty where nothing is comparable
    figures: dict[str, Compared] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs held against each other along one axis."""

    axis: str
    comparable: bool
    #: why not, field by field; empty where comparable
    differences: tuple[Difference, ...]
    #: the first is the baseline
    sides: tuple[Side, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    #: what the sides are not alike in besides, in words; the axis itself may be among it
    asymmetries: tuple[Asymmetry, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The Comparison as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Run:
    name: str
    result: Mapping[str, Any]
    fields: Fields
    value: str


def compare(results: Sequence[Mapping[str, Any]], axis: str, names: Sequence[str] | None = None) -> Comparison:
    """Holds runs against each other.

    Args:
        results: RunResults as JSON; those that share the axis's value are repeats of one side.
        axis: one of AXES.
        names: a name for each run, used in the answer; by default "run 1" and so on.

    Raises:
        SpecError: the axis is not known.
    """
    if axis not in AXES:
        raise SpecError(f"axis must be one of {', '.join(AXES)}, not {axis!r}", field="axis")
    names = names or [f"run {number}" for number in range(1, len(results) + 1)]
    left_out, runs = [], []
    for name, result in zip(names, results, strict=True):
        validity = result["validity"]
        if validity["state"] == "VALID":
            found = fields_of(result, axis)
            runs.append(_Run(name, result, found, axis_value(found, axis)))
        else:
            left_out.append(LeftOut(name, validity["state"], tuple(reason["code"] for reason in validity["reasons"])))
    groups: dict[str, list[_Run]] = {}
    for run in runs:
        groups.setdefault(run.value, []).append(run)
    differences = _differences(groups, axis)
    notes = _notes(groups, axis)
    if len(groups) < 2:
        notes.append(_nothing_beside(groups, axis, len(left_out)))
    comparable = len(groups) > 1 and not differences
    sides = (
        _sides(groups)
        if comparable
        else tuple(Side(v, tuple(r.name for r in rs), _count_starts(rs)) for v, rs in groups.items())
    )
    apart = _asymmetries(groups)
    return Comparison(axis, comparable, tuple(differences), sides, tuple(left_out), tuple(notes), apart)


def _asymmetries(groups: Mapping[str, Sequence[_Run]]) -> tuple[Asymmetry, ...]:
    """Each side as its first run was treated; () where a run is of another version, whose spec cannot be read here."""
    try:
        return told_apart({value: _treatment(runs[0].result) for value, runs in groups.items()})
    except (ValidationError, UnknownEngine):
        return ()


def _treatment(result: Mapping[str, Any]) -> dict[str, str]:
    spec = RunSpec.model_validate(result["spec"])
    cards = result["environment"].get("cards") or {}
    driver = f"{cards.get('driver') or NOT_KNOWN}, CUDA {cards.get('cuda') or NOT_KNOWN}"
    return {**treatment(spec.target, spec.workload, result["environment"].get("server")), "driver of the cards": driver}


def _nothing_beside(groups: Mapping[str, Sequence[_Run]], axis: str, left_out: int) -> str:
    if not groups:
        return f"nothing to compare: none of the {left_out} runs is VALID"
    aside = f" ({left_out} left out as not VALID)" if left_out else ""
    return f"nothing to compare with: all VALID runs have {axis} {next(iter(groups))}{aside}"


def _differences(groups: Mapping[str, Sequence[_Run]], axis: str) -> list[Difference]:
    """Fields that differ between sides without being the axis's, or within a side at all."""
    runs = [run for group in groups.values() for run in group]
    found = []
    for name in dict.fromkeys(name for run in runs for name in run.fields):
        freed = _is_freed(name, axis)
        pools = list(groups.values()) if freed else [runs]
        if any(differ(name, [run.fields.get(name) for run in pool]) for pool in pools):
            found.append(Difference(name, {run.name: run.fields.get(name) for run in runs}))
    return found


def _is_freed(name: str, axis: str) -> bool:
    return any(name == freed or name.startswith(f"{freed}.") for freed in AXES[axis])


def _notes(groups: Mapping[str, Sequence[_Run]], axis: str) -> list[str]:
    """What may differ along the axis and does, and what the reader must bear in mind."""
    first = [group[0] for group in groups.values()]
    names = dict.fromkeys(name for run in first for name in run.fields if _is_freed(name, axis) and name != axis)
    notes = []
    for name in names:
        if differ(name, [run.fields.get(name) for run in first]):
            values = ", ".join(f"{run.value}: {run.fields.get(name)}" for run in first)
            notes.append(f"{name} differs with {axis} ({values})")
    notes += _limits_not_known(groups, axis)
    totals = {run.value: run.result["summary"].get("total_output_tokens") for run in first}
    if len(set(totals.values())) > 1:
        notes.append("output tokens differ (" + ", ".join(f"{value}: {total}" for value, total in totals.items()) + ")")
    if axis == "model":
        notes.append("tokens of two tokenizers are different work: hold output_characters_per_s beside tokens/s")
    for value, group in groups.items():
        if any((run.result["environment"].get("start") or {}).get("engine_started") is False for run in group):
            notes.append(
                f"{value} was not started for its runs: its blocks are of one server, and tell of no other start"
            )
    if any(run.fields.get("workload.lengths") == "natural" for run in first):
        notes.append("outputs ended where the model liked: nothing is ranked that divides tokens by time")
    if len({run.result["spec"].get("seed") for group in groups.values() for run in group}) > 1:
        notes.append("prompts were drawn from different seeds")
    return notes


def _limits_not_known(groups: Mapping[str, Sequence[_Run]], axis: str) -> list[str]:
    """Sides whose cards' power limit nobody knows, where another run's is known: they may differ in it."""
    limits = {value: [run.fields.get("power_limits_w") or [None] for run in group] for value, group in groups.items()}
    if axis == "power_limit" or not any(limit for side in limits.values() for of_run in side for limit in of_run):
        return []
    notes = []
    for value, side in limits.items():
        unknown = sum(None in of_run for of_run in side)
        whose = value if unknown == len(side) else f"some runs of {value}"
        if unknown:
            notes.append(f"the power limit of {whose} is not known: it may differ")
    return notes


def _sides(groups: Mapping[str, Sequence[_Run]]) -> tuple[Side, ...]:
    natural = any(run.fields.get("workload.lengths") == "natural" for group in groups.values() for run in group)
    tables = {value: _spreads(group) for value, group in groups.items()}
    baseline = next(iter(tables.values()))
    sides = []
    for value, group in groups.items():
        figures = {
            name: _compared(name, one, baseline[name])
            for name, one in tables[value].items()
            if name in baseline and (not natural or metric_of(name) in NATURAL_METRICS)
        }
        sides.append(Side(value, tuple(run.name for run in group), _count_starts(group), figures))
    return tuple(sides)


def _spreads(group: Sequence[_Run]) -> dict[str, Spread]:
    return spreads_of([run.result["summary"] for run in group], [start_of(run.result) for run in group])


def _count_starts(group: Sequence[_Run]) -> int | None:
    """A run that is no burst of any counts as a start of its own."""
    starts = [start_of(run.result) for run in group]
    if all(start is None for start in starts):
        return None
    return len({start for start in starts if start is not None}) + starts.count(None)


def _compared(name: str, one: Spread, baseline: Spread) -> Compared:
    ratio = one.median / baseline.median if baseline.median else None
    span = None
    if min(one.n, baseline.n) > 1 and baseline.min > 0:
        span = (one.min / baseline.max, one.max / baseline.min)
    return Compared(one, ratio, span, _verdict(METRICS[metric_of(name)].direction, one, baseline))


def _verdict(direction: str, one: Spread, baseline: Spread) -> str | None:
    """Better or worse only where the two ranges do not touch."""
    if min(one.n, baseline.n) < LEAST_SAMPLES or direction == "none":
        return None
    if one.min <= baseline.max and baseline.min <= one.max:
        return "same"
    higher = one.min > baseline.max
    return "better" if higher == (direction == "higher") else "worse"
