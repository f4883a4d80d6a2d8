"""Workloads that come with the house, workloads from files, and flags laid over either."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from bench_runner.errors import SpecError
from bench_runner.plan.spec import (
    ArrivalSpec,
    ClosedLoop,
    FixedLength,
    FixedPrompt,
    ListedLength,
    SyntheticPrompts,
    WorkloadSpec,
)


def _synthetic(name: str, requests: int, inputs: int, outputs: int, concurrency: int | None = None) -> WorkloadSpec:
    """Fixed lengths; a burst unless a concurrency is given. Long closed loops are warmed by one batch."""
    shape = WorkloadSpec(
        name=name,
        requests=requests,
        prompts=SyntheticPrompts(input_tokens=FixedLength(tokens=inputs)),
        output_tokens=FixedLength(tokens=outputs),
    )
    if concurrency is None:
        return shape
    return shape.model_copy(update={"arrival": ClosedLoop(concurrency=concurrency), "warmup_batches": 1})


PRESETS: dict[str, WorkloadSpec] = {
    workload.name: workload
    for workload in (
        _synthetic("burst-100x128x128", 100, 128, 128),
        _synthetic("published-a100", 101, 267, 128),
        WorkloadSpec(
            name="qwen-speed",
            requests=6,
            prompts=SyntheticPrompts(input_tokens=ListedLength(tokens=(1, 6144, 14336, 30720, 63488, 129024))),
            output_tokens=FixedLength(tokens=2048),
            arrival=ClosedLoop(concurrency=1),
            warmup_batches=1,
        ),
        WorkloadSpec(
            name="explain-quantum",
            requests=1,
            prompts=FixedPrompt(text="Explain quantum entanglement in simple terms"),
            output_tokens=FixedLength(tokens=512),
            arrival=ClosedLoop(concurrency=1),
            lengths="natural",
            warmup_batches=2,
        ),
        _synthetic("chat-1k-1k", 128, 1024, 1024, concurrency=32),
        _synthetic("summarise-8k-1k", 64, 8192, 1024, concurrency=16),
        _synthetic("generate-1k-8k", 64, 1024, 8192, concurrency=16),
    )
}

#: One line for each preset, for lists and pages.
DESCRIPTIONS: dict[str, str] = {
    "burst-100x128x128": "100 prompts of exactly 128 tokens, 128 output tokens each, all at once",
    "published-a100": "101 prompts of 267 tokens, 128 output tokens each, all at once: the published A100 table",
    "qwen-speed": "one prompt at a time, of 1 to 129,024 tokens, 2,048 output tokens each: Qwen's speed table",
    "explain-quantum": "the single prompt 'Explain quantum entanglement in simple terms', answered at its own length",
    "chat-1k-1k": "128 prompts of 1,024 tokens, 1,024 output tokens each, 32 in flight",
    "summarise-8k-1k": "64 prompts of 8,192 tokens, 1,024 output tokens each, 16 in flight",
    "generate-1k-8k": "64 prompts of 1,024 tokens, 8,192 output tokens each, 16 in flight",
}

_SUFFIXES = (".yaml", ".yml", ".json")
#: Far above any workload that somebody writes; a file beyond it is something else.
_MAX_FILE_BYTES = 16 * 2**20
#: A workload is four levels deep; `extra_body` may have some of its own.
_MAX_DEPTH = 50
#: What a person may give where a field of a workload is missing.
_EXAMPLES = {
    "requests": "100",
    "prompts": "{kind: synthetic, input_tokens: {kind: fixed, tokens: 128}}",
    "output_tokens": "{kind: fixed, tokens: 128}; entries of a dataset that bring their own length go before it",
}
#: Fields whose value is one of several kinds; pydantic names the kind in an error's place, right behind the field, as
#: it names the two types of `warmup_batches`.
_UNIONS = frozenset({"prompts", "input_tokens", "output_tokens", "arrival"})
_KINDS = frozenset(
    {"synthetic", "text", "dataset", "fixed", "uniform", "normal", "list"}
    | {"burst", "closed_loop", "constant", "poisson", "gamma", "ramp", "trace"}
)
_MOST_MISTAKES = 5


def load_workload(name_or_path: str) -> WorkloadSpec:
    """The preset of that name, or the workload in that YAML or JSON file.

    Raises:
        SpecError: no such preset or file, unreadable, or not a workload; names file, field and mend.
    """
    if name_or_path in PRESETS:
        return PRESETS[name_or_path]
    path = Path(name_or_path)
    if path.suffix.lower() not in _SUFFIXES:
        raise SpecError(
            f"no workload named {name_or_path!r}; known are {', '.join(PRESETS)}, or a file ending in "
            f"{', '.join(_SUFFIXES)}",
            field="workload",
        )
    form: Literal["json", "yaml"] = "json" if path.suffix.lower() == ".json" else "yaml"
    return parse_workload_text(_read_text(path), form=form, where=str(path), name=path.stem)


def parse_workload_text(
    text: str, *, form: Literal["json", "yaml"], where: str = "workload", name: str = "custom"
) -> WorkloadSpec:
    """A workload from a YAML or JSON text, as a file or a request's body holds it.

    Args:
        text: what was read.
        form: how to read it.
        where: named in errors, such as the file.
        name: of the workload, where the text gives none.

    Raises:
        SpecError: as `parse_workload`, and with the line where it is no YAML or JSON.
    """
    body = _parse_text(text, form, where)
    if isinstance(body, dict):
        body = {"name": name[:100] or "custom", **body}
    return parse_workload(body, where=where)


def parse_workload(body: object, *, where: str = "workload") -> WorkloadSpec:
    """A workload from plain JSON types.

    Args:
        body: what was read.
        where: named in errors, such as the file.

    Raises:
        SpecError: not a workload; `field` is the first field to mend, dotted, from "workload" on.
    """
    try:
        return WorkloadSpec.model_validate(body)
    except ValidationError as error:
        raise _explain(error, where) from error


def apply_overrides(
    workload: WorkloadSpec,
    *,
    requests: int | None = None,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    concurrency: int | None = None,
    warmup_batches: int | None = None,
    sending: Mapping[str, Any] | None = None,
) -> WorkloadSpec:
    """The workload with flags laid over it; `None` leaves a field as it is.

    What was changed is added to the name, so that no result passes for the preset's.

    Args:
        workload: what the flags change.
        requests: how many are sent.
        input_tokens: one length for every prompt; synthetic prompts only.
        output_tokens: one length for every answer.
        concurrency: a closed loop with so many in flight, whatever the arrival was.
        warmup_batches: so many, instead of "auto".
        sending: `arrival`, `duration_s` and `ramp_up_s` as a workload file has them, those that are to change. With a
            duration and no `requests`, the arrival's rates say how many there can be.

    Raises:
        SpecError: a value out of range, or one that does not go with this workload.
    """
    update: dict[str, Any] = {}
    if requests is not None:
        update["requests"] = requests
    if input_tokens is not None:
        if not isinstance(workload.prompts, SyntheticPrompts):
            raise SpecError(
                f"input tokens cannot be set for {workload.name}: its prompts are given, not drawn; leave them out",
                field="workload.prompts.input_tokens",
            )
        length = {"kind": "fixed", "tokens": input_tokens}
        update["prompts"] = workload.prompts.model_dump() | {"input_tokens": length}
    if output_tokens is not None:
        update["output_tokens"] = {"kind": "fixed", "tokens": output_tokens}
    if concurrency is not None:
        update["arrival"] = {"kind": "closed_loop", "concurrency": concurrency}
    if warmup_batches is not None:
        update["warmup_batches"] = warmup_batches
    update |= sending or {}
    if not update:
        return workload
    body = workload.model_dump() | update
    if requests is None and update.get("duration_s") is not None:
        del body["requests"]
    changed = parse_workload(body)
    marks = [
        f"+{flag}={value}"
        for flag, value, field in (
            ("requests", changed.requests, "requests"),
            ("input", input_tokens, "prompts"),
            ("output", output_tokens, "output_tokens"),
            (*_in_a_word(changed.arrival), "arrival"),
            ("duration", _shortly(changed.duration_s), "duration_s"),
            ("ramp-up", _shortly(changed.ramp_up_s), "ramp_up_s"),
            ("warmup", warmup_batches, "warmup_batches"),
        )
        if getattr(changed, field) != getattr(workload, field)
    ]
    name = workload.name + "".join(marks)
    return changed.model_copy(update={"name": name if len(name) <= 100 else "custom"})


def _shortly(seconds: float | None) -> str:
    return "none" if seconds is None else f"{seconds:g}"


def _in_a_word(arrival: ArrivalSpec) -> tuple[str, str]:
    """The arrival for a name: what to call it, and its figures."""
    if isinstance(arrival, ClosedLoop):
        thinking = f"-think-{arrival.think_time_s:g}" if arrival.think_time_s is not None else ""
        return "concurrency", f"{arrival.concurrency}{thinking}"
    figures = [getattr(arrival, name, None) for name in ("rate_per_s", "burstiness")]
    cap = getattr(arrival, "max_concurrency", None)
    parts = [arrival.kind, *(f"{figure:g}" for figure in figures if figure is not None)]
    return "arrival", "-".join([*parts, *([f"most-{cap}"] if cap is not None else [])])


def _read_text(path: Path) -> str:
    try:
        if not path.is_file():
            raise SpecError(f"no workload file at {path}; give an existing file or a preset's name", field="workload")
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise SpecError(f"{path} is larger than {_MAX_FILE_BYTES} bytes, no workload file", field="workload")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError(f"{path} is not UTF-8; save it as UTF-8", field="workload") from error
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror or error}", field="workload") from error


def _parse_text(text: str, form: str, where: str) -> Any:
    """Plain JSON types out of YAML or JSON."""
    import yaml  # here, for few runs read a file

    try:
        if form == "json":
            body = json.loads(text)
        else:
            _check_yaml(text, where)
            body = yaml.safe_load(text)
        # What YAML knows and JSON does not (dates, bytes, sets, NaN) could be neither sent nor stored.
        return json.loads(json.dumps(body, allow_nan=False))
    except json.JSONDecodeError as error:
        raise SpecError(f"{where}, line {error.lineno}: not JSON: {error.msg}", field="workload") from error
    except yaml.MarkedYAMLError as error:
        line_of = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SpecError(f"{where}{line_of}: not YAML: {error.problem or error.context}", field="workload") from error
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise SpecError(f"{where} cannot be parsed: {type(error).__name__}: {error}", field="workload") from error


def _check_yaml(text: str, where: str) -> None:
    """Refuse what lets a few lines of YAML take gigabytes or minutes: references, and depth without end."""
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise SpecError(f"{where}: YAML references (*{event.anchor}) are not taken; write it out", field="workload")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            raise SpecError(f"{where}: nested more than {_MAX_DEPTH} levels deep, no workload", field="workload")


def _explain(error: ValidationError, where: str) -> SpecError:
    """Pydantic's findings as one sentence a mistake, each with its dotted field."""
    mistakes = []
    first = "workload"
    details = error.errors(include_url=False, include_context=False, include_input=False)
    for number, detail in enumerate(details[:_MOST_MISTAKES]):
        field = _dotted(detail["loc"])
        message = "is not a field of a workload" if detail["type"] == "extra_forbidden" else detail["msg"]
        if detail["type"] == "missing" and field in _EXAMPLES:
            message += f"; give it, such as {_EXAMPLES[field]}"
        mistakes.append(f"{field or 'workload'}: {message}")
        if number == 0 and field:
            first = f"workload.{field}"
    if len(details) > _MOST_MISTAKES:
        mistakes.append(f"and {len(details) - _MOST_MISTAKES} more")
    return SpecError(f"{where}: {'; '.join(mistakes)}", field=first)


def _dotted(loc: tuple[int | str, ...]) -> str:
    """An error's place as a person would write it: without the kinds that pydantic puts behind a union's field."""
    kept = [
        str(part)
        for before, part in zip((None, *loc), loc, strict=False)
        if not (before in _UNIONS and part in _KINDS) and before != "warmup_batches"
    ]
    return ".".join(kept)
