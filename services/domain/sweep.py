"""One workload at many points of an axis: how hard the engine is driven, all else as it was. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Protocol

from pydantic import ConfigDict, Field, ValidationError, model_validator

from bench_runner.plan.spec import ClosedLoop, Constant, Gamma, Poisson, Ramp, Trace, WorkloadSpec, most_requests
from engines.spec import PLAIN, Spec
from services.domain.errors import BadInput, Problem

Axis = Literal["concurrency", "rate_per_s"]
Spacing = Literal["constant", "poisson", "gamma"]
#: A concurrency (whole), or requests a second.
PointValue = Annotated[float, Field(ge=0.001, le=1_000_000, allow_inf_nan=False), PLAIN]
Burstiness = Annotated[float, Field(ge=0.01, le=1_000, allow_inf_nan=False), PLAIN]

#: What a load process, and a RunSpec, take.
MOST_CONCURRENCY = 20_000
MOST_REQUESTS = 1_000_000
#: Figures of a value: 11.31 requests a second.
_FIGURES = 4
#: What stands for the axis in the name of a point's workload.
_MARKS = {"concurrency": "concurrency", "rate_per_s": "rate"}

SWEEP_EXAMPLE: dict[str, Any] = {
    "name": "throughput and interactivity",
    "targets": ["vllm-mistral-7b"],
    "workloads": ["chat-1k-1k"],
    "repeats": 3,
    "sweep": {"axis": "concurrency", "values": [1, 4, 16, 64]},
}


class Along(Protocol):
    """What a sweep and a search say alike: the axis, and how long each point is."""

    @property
    def axis(self) -> Axis:
        """What is varied."""

    @property
    def arrival(self) -> Spacing | None:
        """Of an open loop; `None`: the workload's own, else Poisson."""

    @property
    def burstiness(self) -> float | None:
        """Of gamma arrivals."""

    @property
    def least_s(self) -> float:
        """A rate is held for at least so long."""

    @property
    def waves(self) -> int:
        """A closed loop fills its slots at least so often."""


class Sweep(Spec):
    """Each workload of the job at each of these points; every point is a cell of its own.

    A point sends the workload's `requests`, and more where that is too short: a closed loop fills each slot `waves`
    times, an open loop sends for `least_s`. A workload with a `duration_s` keeps it at every point. The first point has
    the job's seed, each other one a seed drawn from it, so that no prefix cache serves the prompts of another.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"axis": "concurrency", "values": [1, 4, 16, 64]},
                {"axis": "rate_per_s", "low": 1, "high": 32, "steps": 6, "arrival": "poisson"},
            ]
        }
    )

    axis: Axis = Field(description="concurrency: closed loops; rate_per_s: open loops")
    values: Annotated[tuple[PointValue, ...], Field(min_length=1, max_length=100)] | None = Field(
        default=None, description="the points; or give low, high and steps"
    )
    low: PointValue | None = Field(default=None, description="first of `steps` points, evenly spaced as ratios")
    high: PointValue | None = Field(default=None, description="last of `steps` points")
    steps: Annotated[int, Field(ge=2, le=100), PLAIN] | None = Field(default=None, description="how many points")
    arrival: Spacing | None = Field(
        default=None, description="of rate_per_s: how requests are spaced; null: as the workload's own, else poisson"
    )
    burstiness: Burstiness | None = Field(default=None, description="of gamma arrivals; null: as the workload's own")
    least_s: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False), PLAIN] = Field(
        default=30.0, description="of rate_per_s: each point sends for at least so long, seconds"
    )
    waves: Annotated[int, Field(ge=2, le=1_000), PLAIN] = Field(
        default=10, description="of concurrency: each point sends at least so many requests a slot"
    )

    @model_validator(mode="after")
    def _fits(self) -> Sweep:
        line = (self.low, self.high, self.steps)
        if (self.values is None) == (None in line) or (self.values is not None and line != (None, None, None)):
            raise ValueError("give values, or low, high and steps, and not both")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError("low must be below high")
        check_along(self)
        points = self.points
        if len(set(points)) < len(points):
            raise ValueError("a point is given twice, or the steps are closer than one slot: give fewer")
        return self

    @property
    def points(self) -> tuple[float, ...]:
        """The values, in the order asked for."""
        if self.values is not None:
            return tuple(checked_value(self.axis, value) for value in self.values)
        assert self.low is not None
        assert self.high is not None
        assert self.steps is not None
        ratio = (self.high / self.low) ** (1 / (self.steps - 1))
        return tuple(rounded(self.axis, self.low * ratio**k) for k in range(self.steps))


def check_along(along: Along) -> None:
    """Raises ValueError where fields of one axis are given with the other."""
    if along.axis == "concurrency" and (along.arrival is not None or along.burstiness is not None):
        raise ValueError("arrival and burstiness belong to rate_per_s; a concurrency is a closed loop")
    if along.burstiness is not None and along.arrival not in (None, "gamma"):
        raise ValueError('burstiness belongs to the arrival "gamma"')


def checked_value(axis: Axis, value: float) -> float:
    """The value as it is. Raises ValueError for a concurrency that no load has."""
    if axis == "concurrency" and (value != int(value) or not 1 <= value <= MOST_CONCURRENCY):
        raise ValueError(f"a concurrency is a whole number from 1 to {MOST_CONCURRENCY}")
    return value


def rounded(axis: Axis, value: float) -> float:
    """A value that people can say: a whole concurrency, a rate of four figures."""
    return float(max(1, round(value))) if axis == "concurrency" else float(f"{value:.{_FIGURES}g}")


def point_name(base: str, axis: Axis, value: float) -> str:
    """What the workload is called at a point, such as "chat-1k-1k@concurrency=8"."""
    return f"{base}@{_MARKS[axis]}={value:.10g}"


def in_words(axis: Axis, value: float) -> str:
    """ "8 in flight" or "2.5 requests/s"."""
    return f"{value:.10g} in flight" if axis == "concurrency" else f"{value:.10g} requests/s"


def sweep_problems(workload: WorkloadSpec, along: Along, field: str) -> Iterator[Problem]:
    """Why the workload cannot be driven along the axis."""
    if isinstance(workload.arrival, Trace | Ramp):
        problem = f"a {workload.arrival.kind} has rates of its own, which a point of {along.axis} would replace"
        yield Problem(f"{field}.arrival", problem, "give a workload with another arrival")
    if along.axis == "rate_per_s" and _kind(workload, along) == "gamma" and _shape(workload, along) is None:
        yield Problem("sweep.burstiness", "gamma arrivals need it", "give burstiness: 1 is Poisson, less is burstier")


def at_point(
    workload: WorkloadSpec, along: Along, value: float, *, base: str, requests: int | None = None
) -> WorkloadSpec:
    """The workload driven at one point of the axis.

    Args:
        workload: of any point, or none yet.
        along: the axis, and how long a point is at least.
        value: where on the axis.
        base: the name without a point.
        requests: how many count at least, in place of the workload's own number and `duration_s`; an open loop then has
            a ramp-up before them, of a third of `least_s` where the workload has none, for an engine that begins with
            empty queues is faster than it will be. `None`: as many as the workload says, or for as long.

    Raises:
        BadInput: so many requests, or so long a name, are not possible.
    """
    arrival = _arrival(workload, along, value)
    duration_s = workload.duration_s if requests is None else None
    ramp_up_s = workload.ramp_up_s
    sent = workload.requests if requests is None else requests
    if along.axis == "concurrency":
        sent = max(sent, along.waves * int(value))
    elif duration_s is not None:
        sent = most_requests(arrival, duration_s) or sent
    elif requests is None:
        sent = max(sent, math.ceil(value * along.least_s))
    else:
        ramp_up_s = ramp_up_s or along.least_s / 3 or None
        sent = max(sent, math.ceil(value * along.least_s)) + math.ceil(value * (ramp_up_s or 0.0))
    name = point_name(base, along.axis, value)
    if sent > MOST_REQUESTS:
        raise BadInput(
            Problem(
                along.axis,
                f"{in_words(along.axis, value)} of {base} are {sent} requests",
                f"keep to {MOST_REQUESTS}: lower the value, least_s or waves, or give the workload a duration_s",
            )
        )
    changed: dict[str, Any] = {"name": name, "arrival": arrival.model_dump(), "requests": sent}
    changed |= {"duration_s": duration_s, "ramp_up_s": ramp_up_s}
    try:
        return WorkloadSpec.model_validate({**workload.model_dump(), **changed})
    except ValidationError as error:
        text = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise BadInput(Problem(base, f"{name}: {text}", "shorten its name, or change what is named")) from None


def _arrival(workload: WorkloadSpec, along: Along, value: float) -> ClosedLoop | Constant | Poisson | Gamma:
    own = workload.arrival
    if along.axis == "concurrency":
        if isinstance(own, ClosedLoop):
            return own.model_copy(update={"concurrency": int(value)})
        return ClosedLoop(concurrency=int(value))
    cap = getattr(own, "max_concurrency", None)
    match _kind(workload, along):
        case "constant":
            return Constant(rate_per_s=value, max_concurrency=cap)
        case "gamma":
            return Gamma(rate_per_s=value, burstiness=_shape(workload, along) or 1.0, max_concurrency=cap)
        case _:
            return Poisson(rate_per_s=value, max_concurrency=cap)


def _kind(workload: WorkloadSpec, along: Along) -> str:
    own = workload.arrival.kind
    if along.arrival is not None:
        return along.arrival
    return "gamma" if along.burstiness is not None else own if own in ("constant", "gamma") else "poisson"


def _shape(workload: WorkloadSpec, along: Along) -> float | None:
    return along.burstiness or getattr(workload.arrival, "burstiness", None)
