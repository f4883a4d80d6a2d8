"""A run held against published rows: the ratio, and everything in which the two are not alike. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench_runner.references.published import Reference


@dataclass(frozen=True, slots=True)
class Held:
    """One published row that asks for the run's work."""

    reference: Reference
    #: metric -> what this run measured
    measured: dict[str, float]
    #: metric -> measured ÷ published
    ratios: dict[str, float]
    #: in words; empty where nothing is known to differ
    mismatches: tuple[str, ...]


#: Metrics that published rows give.
_PUBLISHED = ("duration_s", "input_tokens_per_s", "output_tokens_per_s")


def held_against(result: Mapping[str, Any], references: Sequence[Reference]) -> list[Held]:
    """The published rows of the same engine, model, workload and (where both say it) precision, each with its ratios.

    Rows for one input length are held against that length's own speed, or left out where the run has none.

    Args:
        result: a RunResult as JSON.
        references: the rows to look through.
    """
    held = []
    for row in references:
        if not _asks_for_the_same(result["spec"], row):
            continue
        measured = _measured(result, row)
        ratios = {
            name: value / published
            for name, value in measured.items()
            if (published := getattr(row, name)) is not None and published > 0
        }
        if ratios:
            shown = {name: measured[name] for name in ratios}
            held.append(Held(row, shown, ratios, tuple(_mismatches(result, row))))
    return held


def _asks_for_the_same(spec: Mapping[str, Any], row: Reference) -> bool:
    target = spec["target"]
    precision = target.get("precision")
    return (
        target["engine"] == row.engine
        and spec["workload"]["name"] == row.workload
        and _short(target["model"]).startswith(_short(row.model))
        and (precision is None or row.precision is None or precision.lower() == row.precision.lower())
    )


def _short(model: str) -> str:
    return model.rsplit("/", 1)[-1].lower()


def _measured(result: Mapping[str, Any], row: Reference) -> dict[str, float]:
    """The run's figures for this row's work; {} where it did not do that work."""
    summary = result["summary"]
    if row.input_tokens_per_prompt is not None:
        speeds = summary.get("by_input_tokens")
        if speeds is not None:
            figures = speeds.get(str(row.input_tokens_per_prompt)) or {}
        else:
            planned = ((summary.get("token_counts") or {}).get("planned") or {}).get("input")
            only = planned is not None and planned == row.input_tokens_per_prompt * summary["successes"]
            figures = summary if only else {}
        found = {"output_tokens_per_s": figures.get("output_tokens_per_s")}
    else:
        natural = result["spec"]["workload"].get("lengths") == "natural"
        # answers of another length take another time; only their speed can be held against the row
        found = {name: summary.get(name) for name in _PUBLISHED if not (natural and name == "duration_s")}
    return {name: value for name, value in found.items() if value is not None}


def _mismatches(result: Mapping[str, Any], row: Reference) -> list[str]:
    target, environment, summary = result["spec"]["target"], result["environment"], result["summary"]
    found = []
    if environment.get("simulated"):
        found.append("this run is simulated, and its engine may be fitted on published rows")
    if result["validity"]["state"] != "VALID":
        found.append(f"this run is {result['validity']['state']}")
    pairs = (
        ("hardware", target.get("hardware"), row.hardware),
        ("precision", target.get("precision"), row.precision),
        ("version", (environment.get("server") or {}).get("version"), row.engine_version),
        ("model", _short(target["model"]), _short(row.model)),
    )
    for name, ours, theirs in pairs:
        if (ours or "").lower().replace(" ", "-") != (theirs or "").lower().replace(" ", "-"):
            found.append(f"{name}: published {theirs or 'not stated'}, this run {ours or 'not stated'}")
    for name in ("total_input_tokens", "total_output_tokens"):
        published, ours = getattr(row, name), summary.get(name)
        if published is not None and ours != published:
            found.append(f"{name}: published {published}, this run {'not known' if ours is None else ours}")
    return found
