"""A Job: what a person asked for, and the runs it expands into. Pure; what may be refused is in `admission`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from bench_runner.plan.spec import SCRAPE_INTERVAL_S, Limits, RunSpec, ScrapeInterval, Slo, WorkloadSpec
from engines.contract import Endpoint
from engines.spec import PLAIN, Attached, Container, Launched, Spec, TargetSpec
from services.domain.errors import BadInput, Problem
from services.domain.search import SEARCH_JOB_EXAMPLE, Search
from services.domain.sweep import SWEEP_EXAMPLE, Sweep
from services.domain.target import NamedTarget, TargetName
from services.domain.text import refuse_unstorable

#: More than this is a mistake, or several jobs.
MOST_RUNS = 10_000
#: Every run keeps its whole spec, so a long workload in many runs is refused rather than multiplied.
MOST_SPEC_BYTES = 64 * 1024 * 1024

JOB_EXAMPLE: dict[str, Any] = {
    "name": "vLLM against TGI",
    "targets": ["vllm-mistral-7b", "tgi-mistral-7b"],
    "workloads": ["burst-100x128x128"],
    "repeats": 3,
    "labels": {"team": "inference"},
}


class Starts(Spec):
    """An engine is started, warmed until steady, measured for several bursts, stopped: so often for each target.

    A burst is one run of a workload (at one point of a sweep); all workloads of the job are carried out in each start,
    `bursts` times each. What stands between two starts of one engine (its compilation, its memory's layout, the card's
    heat) is in none of the bursts of one start, so starts are the samples that intervals rest on, and bursts are nested
    in them.

    A server that is attached is not started: its blocks are consecutive runs that nobody else comes between.
    A burst whose load was cut short ends its start, as the worker's end does: the bursts left go on in a fresh one,
    which is told apart.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"count": 3, "bursts": 5}]})

    count: Annotated[int, Field(ge=1, le=100), PLAIN] = Field(default=3, description="starts of each target")
    bursts: Annotated[int, Field(ge=1, le=100), PLAIN] = Field(
        default=5, description="runs of each workload in one start, warm-up left out"
    )


STARTS_EXAMPLE: dict[str, Any] = {
    "name": "vLLM against TGI, by starts",
    "targets": ["vllm-mistral-7b", "tgi-mistral-7b"],
    "workloads": ["burst-100x128x128"],
    "starts": {"count": 3, "bursts": 5},
}


class TargetArm(Spec):
    """A stored target with other flags, as an arm of its own. What is left out is the stored target's."""

    like: TargetName
    name: TargetName
    endpoint: Endpoint | None = None
    #: where the server with these flags listens; attached targets only
    url: Annotated[str, Field(max_length=2000)] | None = None
    #: further arguments of its command line; launched targets only
    args: tuple[Annotated[str, Field(max_length=1000)], ...] | None = None
    flags: tuple[Annotated[str, Field(max_length=1000)], ...] | None = None
    flag_class: Annotated[str, Field(max_length=50)] | None = None
    precision: Annotated[str, Field(min_length=1, max_length=200)] | None = None


def _target_form(value: object) -> str | None:
    match value:
        case str():
            return "stored"
        case TargetArm() | {"like": _}:
            return "arm"
        case NamedTarget() | dict():
            return "inline"
        case _:
            return None


def _workload_form(value: object) -> str | None:
    match value:
        case str():
            return "preset"
        case WorkloadSpec() | dict():
            return "inline"
        case _:
            return None


TargetChoice = Annotated[
    Annotated[TargetName, Tag("stored")] | Annotated[TargetArm, Tag("arm")] | Annotated[NamedTarget, Tag("inline")],
    Discriminator(
        _target_form,
        custom_error_type="target_form",
        custom_error_message="must be the name of a stored target, a target with a name, or an arm with `like`",
    ),
]
WorkloadChoice = Annotated[
    Annotated[
        Annotated[str, Field(min_length=1, max_length=100, examples=["burst-100x128x128"])],
        Tag("preset"),
    ]
    | Annotated[WorkloadSpec, Tag("inline")],
    Discriminator(
        _workload_form,
        custom_error_type="workload_form",
        custom_error_message="must be the name of a preset or a workload",
    ),
]
Label = Annotated[str, Field(max_length=200)]
LabelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", max_length=100)]


def _is_none(value: object) -> bool:
    return value is None


class JobSpec(Spec):
    """Targets × workloads × repeats, as one person asks for it; along an axis where there is a sweep or a search.

    Without `starts`, an engine that the worker starts is started for each single run: `repeats` of them a cell. With
    `starts`, its runs are bursts of fewer starts, which is what engines that take long to start are compared by:
    `{}` asks for 3 starts of 5 bursts a target, in the order A B B A.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [JOB_EXAMPLE, STARTS_EXAMPLE, SWEEP_EXAMPLE, SEARCH_JOB_EXAMPLE]}
    )

    name: Annotated[str, Field(max_length=200)] = ""
    targets: Annotated[tuple[TargetChoice, ...], Field(min_length=1, max_length=100)]
    workloads: Annotated[tuple[WorkloadChoice, ...], Field(min_length=1, max_length=100)]
    repeats: Annotated[int, Field(ge=1, le=1000), PLAIN] = 1
    #: blocks in place of `repeats`: `{}` is 3 starts of 5 bursts for each target; `null`: each run is started alone
    starts: Starts | None = Field(default=None, exclude_if=_is_none)
    #: "interleaved": all cells once, then all again, so that drift favours nobody; "abba": the same, every other
    #: round backwards; "grouped": all repeats of a cell in a row. With `starts`, it is the order of the starts, and
    #: "abba" where none is given
    order: Literal["interleaved", "grouped", "abba"] = "interleaved"
    labels: Annotated[dict[LabelName, Label], Field(max_length=50)] = Field(default_factory=dict)
    #: higher is claimed first
    priority: Annotated[int, Field(ge=-100, le=100), PLAIN] = 0
    #: `None`: drawn when the job is accepted, so that no two jobs send the same prompts to a prefix cache
    seed: Annotated[int, Field(ge=0, le=2**53 - 1), PLAIN] | None = None
    slo: Slo | None = None
    limits: Limits = Limits()
    #: keep the raw bytes of every response, not only of failed ones
    keep_raw: bool = False
    #: from one reading of the engine's own /metrics to the next beside each measured load; `null`: none beside it
    scrape_interval_s: ScrapeInterval | None = SCRAPE_INTERVAL_S
    #: each run holds its own client against a replay of its timeline
    calibration: bool = True
    #: each workload at many concurrencies or rates: the throughput-interactivity curve
    sweep: Sweep | None = Field(default=None, exclude_if=_is_none)
    #: the highest concurrency or rate that meets an SLO: each run asks for the next
    search: Search | None = Field(default=None, exclude_if=_is_none)

    @property
    def rounds(self) -> int:
        """Runs of each cell: repeats, or the bursts of all its starts; of a search, of its first run."""
        return self.repeats if self.starts is None else self.starts.count * self.starts.bursts

    @model_validator(mode="before")
    @classmethod
    def _alternates_starts(cls, value: object) -> object:
        if isinstance(value, dict) and value.get("starts") is not None:
            return {"order": "abba", **value}
        return value

    @model_validator(mode="after")
    def _goes_one_way(self) -> JobSpec:
        if self.starts is not None and self.repeats != 1:
            raise ValueError("starts repeat their runs as bursts: leave out repeats, and give starts.bursts")
        if self.search is None:
            return self
        if self.starts is not None:
            raise ValueError("a search asks for its runs one by one, each as the last one ended: leave out starts")
        if self.sweep is not None:
            raise ValueError("give a sweep or a search, or each in a job of its own")
        if self.repeats != 1:
            raise ValueError("a search repeats its runs itself, as often as its confidence takes: leave out repeats")
        if self.slo is not None:
            raise ValueError("a search has an SLO of its own: leave out slo, and give search.slo")
        return self

    @model_validator(mode="before")
    @classmethod
    def _is_storable(cls, value: object) -> object:
        return refuse_unstorable(value)


@dataclass(frozen=True, slots=True)
class Arm:
    """One target of a job, resolved: the name its runs carry, and the target as it is now."""

    name: str
    spec: TargetSpec


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of a job, ready for the queue."""

    #: order in which the job wants its runs, from 0
    position: int
    spec: RunSpec
    target_name: str
    workload_name: str
    #: what it holds while it runs, sorted
    resources: tuple[str, ...]
    #: position of the run whose engine says the output lengths this one asks for ("length-matched", attached);
    #: this run waits for that one. `None`: its lengths are known
    lengths_from: int | None = None
    #: the workload's name without its point, and the point, where the job has a sweep or a search
    series: str | None = None
    point: float | None = None
    #: which start of its target it belongs to, and which of its cell's bursts it is there, from 0; `None` both: the job
    #: has no starts
    start: int | None = None
    burst: int | None = None


def resolve_arms(job: JobSpec, stored: Mapping[str, TargetSpec]) -> tuple[Arm, ...]:
    """Every target of the job by name.

    Raises:
        BadInput: a name is not stored, is given twice, or an arm asks for what its target does not have.
    """
    arms: list[Arm] = []
    problems: list[Problem] = []
    for position, choice in enumerate(job.targets):
        field = f"targets.{position}"
        try:
            arm = _resolve_arm(choice, stored, field)
        except BadInput as error:
            problems += error.problems
            continue
        if arm.name in {other.name for other in arms}:
            problems.append(Problem(field, f"the target {arm.name!r} is given twice", "give each arm its own name"))
        arms.append(arm)
    if problems:
        raise BadInput(*problems)
    return tuple(arms)


def _resolve_arm(choice: str | TargetArm | NamedTarget, stored: Mapping[str, TargetSpec], field: str) -> Arm:
    if isinstance(choice, NamedTarget):
        return Arm(choice.name, choice.spec)
    name = choice if isinstance(choice, str) else choice.like
    if name not in stored:
        raise BadInput(
            Problem(
                field if isinstance(choice, str) else f"{field}.like",
                f"there is no stored target {name!r}",
                "create it with POST /v1/targets, or name one of GET /v1/targets",
            )
        )
    if isinstance(choice, str):
        return Arm(choice, stored[choice])
    return Arm(choice.name, _with_changes(stored[name], choice, field))


def _with_changes(base: TargetSpec, arm: TargetArm, field: str) -> TargetSpec:
    reach: dict[str, Any] = {}
    if arm.url is not None:
        if not isinstance(base.reach, Attached):
            how = "in a container" if isinstance(base.reach, Container) else "launched"
            raise BadInput(Problem(f"{field}.url", f"the target is {how}, not attached", "leave url out"))
        reach = {"url": arm.url}
    if arm.args is not None:
        if not isinstance(base.reach, Launched):
            raise BadInput(Problem(f"{field}.args", *_no_place_for_args(base.reach)))
        reach = {"args": arm.args}
    changes = arm.model_dump(include={"endpoint", "flags", "flag_class", "precision"}, exclude_none=True)
    try:
        return TargetSpec.model_validate(
            {**base.model_dump(), **changes, "reach": {**base.reach.model_dump(), **reach}},
        )
    except ValidationError as error:
        # The message alone: Pydantic's whole text repeats what was given, a password in the URL included.
        text = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise BadInput(Problem(f"{field}.url", text, "give an http:// or https:// base URL")) from None


def _no_place_for_args(reach: Attached | Container) -> tuple[str, str]:
    """Why an arm cannot have arguments of its own, and what to do."""
    if isinstance(reach, Container):
        return "a container runs with what it was created with", "create one with these, and a target of its own"
    return "the target is attached, not launched", "state them in flags"


def resolve_workloads(job: JobSpec, presets: Mapping[str, WorkloadSpec]) -> tuple[WorkloadSpec, ...]:
    """Every workload of the job, presets looked up.

    Raises:
        BadInput: an unknown preset, or two workloads of one name.
    """
    workloads: list[WorkloadSpec] = []
    problems: list[Problem] = []
    for position, choice in enumerate(job.workloads):
        field = f"workloads.{position}"
        workload = presets.get(choice) if isinstance(choice, str) else choice
        if workload is None:
            known = ", ".join(sorted(presets))
            problems.append(Problem(field, f"there is no preset {choice!r}", f"use one of {known}, or a workload"))
            continue
        if workload.name in {other.name for other in workloads}:
            problems.append(
                Problem(f"{field}.name", f"the workload {workload.name!r} is given twice", "give each its own name")
            )
        workloads.append(workload)
    if problems:
        raise BadInput(*problems)
    return tuple(workloads)
