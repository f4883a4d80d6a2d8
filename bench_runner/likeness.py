"""What makes two runs alike: the fields of a RunResult that change a number, and which an axis sets free. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Fields = dict[str, Any]

#: axis -> the fields (or beginnings of fields) that may differ along it: itself, and what cannot but go with it
AXES: dict[str, tuple[str, ...]] = {
    "engine": ("engine", "version", "flags"),
    "version": ("version",),
    "model": ("model",),
    "flags": ("flags", "flag_class"),
    "flag_class": ("flag_class", "flags"),
    "precision": ("precision", "flags"),
    "hardware": ("hardware", "network_path", "power_limits_w"),
    "power_limit": ("power_limits_w",),
    "gpus": ("gpus", "flags", "power_limits_w"),
    "endpoint": ("endpoint",),
    "concurrency": ("workload.arrival.concurrency", "workload.requests"),
    "rate": ("workload.arrival.rate_per_s", "workload.requests"),
    "input_tokens": ("workload.prompts.input_tokens",),
    "output_tokens": ("workload.output_tokens",),
    "socket": ("workload.socket",),
}

#: Of a workload: its name is a label, and matched lengths are what the other engine gave, checked as counts.
_NOT_WORK = ("name", "matched_output_tokens")

#: How quantised checkpoints are told from their parent by name.
_QUANTISED = re.compile(r"[-_.](awq|gptq|fp8|fp16|bf16|int[48]|w[48]a(8|16))(?=$|[-_.])", re.IGNORECASE)

#: Among a container's variables, what its image says of itself, and nobody sets: it goes with the version.
_OF_THE_IMAGE = re.compile(r"(\w+_VERSION|NVIDIA_REQUIRE_\w+|TORCH_CUDA_ARCH_LIST)=")


def fields_of(result: Mapping[str, Any], axis: str) -> Fields:
    """The fields of a RunResult, given as its JSON, that must be alike or be the axis; `None`: not known."""
    target, environment = result["spec"]["target"], result["environment"]
    model = target["model"].rsplit("/", 1)[-1].lower()
    workload = {k: v for k, v in result["spec"]["workload"].items() if k not in _NOT_WORK}
    found: Fields = {
        "engine": target["engine"],
        "version": (environment.get("server") or {}).get("version"),
        "model": _QUANTISED.sub("", model) if axis == "precision" else model,
        "endpoint": environment.get("endpoint") or target.get("endpoint"),
        "flags": _flags(result, model if axis == "model" else None),
        "flag_class": target.get("flag_class"),
        "hardware": target.get("hardware"),
        "gpus": target.get("gpus"),
        "precision": target.get("precision"),
        "simulated": bool(environment.get("simulated")),
        "network_path": environment.get("network_path"),
        "power_limits_w": _power_limits(environment.get("cards")),
        # Absent: from before there was any reading beside the load.
        "scrape_interval_s": result["spec"].get("scrape_interval_s"),
        **_flatten("workload", workload),
    }
    if workload.get("lengths") == "length-matched":
        found["output_tokens"] = result["summary"].get("total_output_tokens")
    return found


def differ(name: str, values: Sequence[Any]) -> bool:
    """Whether runs are known to differ in a field, by each one's value of it.

    What is not known is a value like any other, but of a power limit: a run tells of one only where its target says
    which cards are its own and its worker may ask them, so in a limit that one side does not know nothing differs.
    """
    if name != "power_limits_w":
        return len({repr(value) for value in values}) > 1
    known = [value for value in values if value is not None]
    if len({len(limits) for limits in known}) > 1:
        return True
    return any(len(set(of_card) - {None}) > 1 for of_card in zip(*known, strict=True))


def _power_limits(cards: Mapping[str, Any] | None) -> list[int | None] | None:
    """Watts that each of the target's cards may draw; `None` where it is not known which these are.

    Whole ones, as limits are set: a driver may tell the same limit some milliwatts off after a reset.
    """
    if not cards or not cards["of_target"]:
        return None
    limits_w = [card["power_limit_w"] for card in cards["cards"]]
    return [None if limit_w is None else round(limit_w) for limit_w in limits_w]


def _flags(result: Mapping[str, Any], model: str | None) -> list[str]:
    """What the engine was told; of a container what it was found to run with, for what was stated may be stale or none.

    A container's words that name the model are left out where `model` says which: that is what the axis is about.
    """
    target = result["spec"]["target"]
    reach = target.get("reach") or {}
    found = (result["environment"].get("server") or {}).get("flags") or ()
    if reach.get("kind") == "container" and found:
        told = [word for word in map(str, found) if not _OF_THE_IMAGE.match(word)]
        return [word for word in told if model is None or re.split("[/=]", word)[-1].lower() != model]
    return [*(target.get("flags") or ()), *(reach.get("args") or ()), *_pairs(reach.get("env") or {})]


def axis_value(fields: Fields, axis: str) -> str:
    """Which side a run is on, in words."""
    lead = AXES[axis][0]
    if lead in fields:
        return _in_words(fields[lead])
    parts = {k.removeprefix(f"{lead}."): v for k, v in fields.items() if k.startswith(f"{lead}.")}
    return ", ".join(f"{name} {_in_words(value)}" for name, value in parts.items()) or _in_words(None)


def _in_words(value: Any) -> str:
    match value:
        case None:
            return "not known"
        case list() | tuple():
            return " ".join(map(str, value)) or "none"
        case _:
            return str(value)


def _pairs(env: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in sorted(env.items())]


def _flatten(prefix: str, value: Any) -> Fields:
    """Nested objects as dotted names; lists stay values."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    found: Fields = {}
    for name, inner in value.items():
        found.update(_flatten(f"{prefix}.{name}", inner))
    return found or {prefix: {}}
