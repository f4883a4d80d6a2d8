"""The highest load that meets an SLO, with the confidence it claims. Pure: the runs so far in, the next one out.

low ─▶ twice that ─▶ … ─▶ the first that does not meet ─▶ halve the ratio between the two until they are close

A value *meets* where the true share of requests that keep the SLO is at least `attainment`, but for a chance of `error`
(one-sided Clopper-Pearson bound over its VALID runs); it *fails* where that share is below, in the same sense. Runs
that are not VALID only because the engine could not follow speak against a value in both, and never for it. A value
where neither can be said after `LOOKS` runs is *undecided*, and the search goes on below it.

The final words rest on whichever values the search came to, so each test has its part of the whole error alone:
error = (1 - confidence) ÷ (most values the search may come to × most runs at one). Then all that is said of all values
holds together with the confidence, whatever the path (Bonferroni). Only a test against the truth can be wrong, so one
side is enough. That a lower load would do no worse is not needed for either claim; it is why the search looks there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from bench_runner.measure.stats import minimum_samples
from bench_runner.plan.spec import Slo
from engines.spec import PLAIN, Spec
from services.domain.attainment import Attained, lower_bound, pool, upper_bound
from services.domain.sweep import (
    MOST_REQUESTS,
    Axis,
    Burstiness,
    PointValue,
    Spacing,
    check_along,
    checked_value,
    in_words,
    rounded,
)

#: Runs at one value that count, each with its share of the requests that the claim takes with no miss at all …
LOOKS = (1, 1, 2)
#: … and runs that did not become VALID, before the value is given up.
MOST_INVALID = 2
#: Requests that come bound together are worth less; so many times as many are asked for at most.
MOST_GROWTH = 8.0
#: Sending takes no more than this share of what a run may last: planning, warm-up and the last answers want the rest.
SENDING_SHARE = 0.8
#: What an engine does that cannot follow: such a run says nothing for a load, but its misses speak against it.
OVERLOADED = frozenset({"failures", "no_successes", "not_stationary", "littles_law", "too_short", "run_timeout"})

SEARCH_EXAMPLE: dict[str, Any] = {
    "axis": "rate_per_s",
    "low": 1,
    "high": 64,
    "slo": {"ttft_s": 0.5, "tpot_s": 0.05},
    "attainment": 0.99,
    "confidence": 0.95,
    "resolution": 0.05,
}
SEARCH_JOB_EXAMPLE: dict[str, Any] = {
    "name": "how much can it take",
    "targets": ["vllm-mistral-7b"],
    "workloads": ["chat-1k-1k"],
    "search": SEARCH_EXAMPLE,
}


class Search(Spec):
    """For each target × workload: the highest load at which enough requests keep the SLO. Each probe is a run.

    Its runs are in the history and on the job's curve, and not on /metrics: each is a workload of its own there.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [SEARCH_EXAMPLE]})

    axis: Axis = Field(default="rate_per_s", description="concurrency: closed loops; rate_per_s: open loops")
    low: PointValue = Field(description="where the search begins; the SLO should hold there")
    high: PointValue = Field(description="nothing above it is tried")
    slo: Slo = Field(description="a request meets it that keeps every limit given; a failed request does not")
    attainment: Annotated[float, Field(ge=0.5, le=0.9999), PLAIN] = Field(
        default=0.99, description="share of requests that must meet the SLO"
    )
    confidence: Annotated[float, Field(ge=0.5, le=0.9999), PLAIN] = Field(
        default=0.95, description="that all that is said of every value holds"
    )
    resolution: Annotated[float, Field(ge=0.01, le=1), PLAIN] = Field(
        default=0.05, description="the search ends where the next value up is no more than this share higher"
    )
    arrival: Spacing | None = Field(
        default=None, description="of rate_per_s: how requests are spaced; null: as the workload's own, else poisson"
    )
    burstiness: Burstiness | None = Field(default=None, description="of gamma arrivals; null: as the workload's own")
    least_s: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False), PLAIN] = Field(
        default=30.0, description="of rate_per_s: each probe sends for at least so long, seconds"
    )
    waves: Annotated[int, Field(ge=2, le=1_000), PLAIN] = Field(
        default=10, description="of concurrency: each probe sends at least so many requests a slot"
    )

    @model_validator(mode="after")
    def _fits(self) -> Search:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        if self.high / self.low > 1e6:
            raise ValueError("high must be at most a million times low")
        for value in (self.low, self.high):
            checked_value(self.axis, value)
        check_along(self)
        return self


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One run of a search that has ended."""

    value: float
    #: `None`: it has no result
    attained: Attained | None
    #: it is VALID
    valid: bool
    #: reason codes for which it is not, notes left out
    codes: tuple[str, ...] = ()
    #: the same in words
    why: str = ""

    @property
    def overloaded(self) -> bool:
        """It is not VALID, and only for what the engine did."""
        return not self.valid and self.attained is not None and bool(self.codes) and OVERLOADED.issuperset(self.codes)


@dataclass(frozen=True, slots=True)
class Probe:
    """The run that is wanted next."""

    value: float
    #: that count, at least
    requests: int


Said = Literal["meets", "fails", "undecided", "unusable", "open"]


@dataclass(frozen=True, slots=True)
class ValueOutcome:
    """What is known of one value."""

    value: float
    said: Said
    #: all runs there, and those of them that are VALID
    runs: int
    valid: int
    #: over the runs that count
    requests: int
    met: int
    effective: float
    #: bounds of the true share, each with the error of one test
    attainment_low: float
    attainment_high: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a search ended."""

    #: "found": between two values; "all_meet": even the highest; "none_meets": not even the lowest; "inconclusive"
    state: Literal["found", "all_meet", "none_meets", "inconclusive"]
    #: `None`: no value was shown to
    highest_meeting: float | None
    lowest_failing: float | None
    confidence: float
    attainment: float
    #: runs
    probes: int
    values: tuple[ValueOutcome, ...]
    words: str

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**asdict(self), "values": [asdict(value) for value in self.values]}


def next_step(search: Search, history: Sequence[ProbeResult], run_timeout_s: float = math.inf) -> Probe | Verdict:
    """What follows from the runs so far, in whatever order they came; the same history gives the same step.

    Args:
        run_timeout_s: no run at a rate is asked for more requests than it can send in its part of this.
    """
    for value in _walk(search, history):
        outcome = outcome_at(search, value, history)
        if outcome.said == "open":
            share = LOOKS[min(outcome.valid, len(LOOKS) - 1)]
            wanted = round(share * _growth(outcome) * first_requests(search))
            return Probe(value, min(wanted, _most_requests(search, value, run_timeout_s)))
        if outcome.said == "unusable":
            why = next((p.why for p in reversed(history) if p.value == value and not p.valid), "")
            return _verdict(search, history, f"{outcome.runs - outcome.valid} runs at {_at(search, value)}: {why}")
    return _verdict(search, history)


def _most_requests(search: Search, value: float, run_timeout_s: float) -> int:
    """So many at most in one run; a closed loop's pace is its engine's, so nothing is known of it beforehand."""
    if search.axis == "concurrency" or math.isinf(run_timeout_s):
        return MOST_REQUESTS
    sending_s = SENDING_SHARE * run_timeout_s - search.least_s / 3
    return max(first_requests(search), int(value * sending_s))


def _growth(outcome: ValueOutcome) -> float:
    """How many requests are worth one independent, by the runs at this value so far."""
    return min(MOST_GROWTH, outcome.requests / outcome.effective) if outcome.effective else 1.0


def outcomes(search: Search, history: Sequence[ProbeResult]) -> tuple[ValueOutcome, ...]:
    """Every value that was tried, the lowest first."""
    return tuple(outcome_at(search, value, history) for value in sorted({probe.value for probe in history}))


def outcome_at(search: Search, value: float, history: Sequence[ProbeResult]) -> ValueOutcome:
    """What the runs at a value say of it."""
    here = [probe for probe in history if probe.value == value]
    valid = [probe.attained for probe in here if probe.valid and probe.attained is not None]
    crushed = [probe.attained for probe in here if probe.overloaded and probe.attained is not None]
    error = error_of_one_test(search)
    counted = pool([*valid, *crushed])
    # A crushed run speaks against the value in both bounds: to leave it out for how it went would be to choose.
    low = min(lower_bound(pool(valid), error), lower_bound(counted, error))
    high = upper_bound(counted, error)
    lost = len(here) - len(valid)
    said: Said = "open"
    if low >= search.attainment and high >= search.attainment:
        said = "meets"
    elif high < search.attainment and low < search.attainment:
        said = "fails"
    elif len(valid) >= len(LOOKS):
        said = "undecided"
    elif lost > MOST_INVALID:
        said = "undecided" if len(crushed) == lost else "unusable"
    return ValueOutcome(
        value, said, len(here), len(valid), counted.requests, counted.met, counted.effective, min(low, high), high
    )


def first_requests(search: Search) -> int:
    """Requests with which a value is shown to meet where none of them missed: LoadGen's count at this error."""
    return minimum_samples(search.attainment, 1 - error_of_one_test(search))


@lru_cache(maxsize=64)
def error_of_one_test(search: Search) -> float:
    """The chance that one test may be wrong with."""
    return (1 - search.confidence) / (most_values(search) * (len(LOOKS) + MOST_INVALID))


def most_values(search: Search) -> int:
    """The most values that any engine can make the search come to."""
    steps = [*_doublings(search)]

    @cache
    def between(low: float, high: float) -> int:
        middle = _middle(search, low, high)
        return 0 if middle is None else 1 + max(between(low, middle), between(middle, high))

    return max([len(steps), *(k + 2 + between(a, b) for k, (a, b) in enumerate(pairwise(steps)))])


def _walk(search: Search, history: Sequence[ProbeResult]) -> Any:
    """The values to be decided in turn; a value that was decided says which comes next."""
    low: float | None = None
    high: float | None = None
    for value in _doublings(search):
        yield value
        if outcome_at(search, value, history).said != "meets":
            high = value
            break
        low = value
    while low is not None and high is not None and (middle := _middle(search, low, high)) is not None:
        yield middle
        if outcome_at(search, middle, history).said == "meets":
            low = middle
        else:
            high = middle


def _doublings(search: Search) -> list[float]:
    values = [search.low]
    while values[-1] < search.high:
        values.append(min(rounded(search.axis, 2 * values[-1]), search.high))
    return values


def _middle(search: Search, low: float, high: float) -> float | None:
    """Between the two, as ratios; `None`: they are close enough."""
    if high <= low * (1 + search.resolution):
        return None
    middle = rounded(search.axis, math.sqrt(low * high))
    return middle if low < middle < high else None


def _verdict(search: Search, history: Sequence[ProbeResult], stuck: str | None = None) -> Verdict:
    values = outcomes(search, history)
    meeting = [value.value for value in values if value.said == "meets"]
    failing = [value.value for value in values if value.said == "fails"]
    best, worst = max(meeting, default=None), min(failing, default=None)
    state: Literal["found", "all_meet", "none_meets", "inconclusive"] = "found"
    if stuck is not None or (best is None and worst is None):
        state = "inconclusive"
    elif best is None:
        state = "none_meets"
    elif best == search.high:
        state = "all_meet"
    words = _in_words(search, values, best, worst, stuck)
    return Verdict(state, best, worst, search.confidence, search.attainment, len(history), values, words)


def _in_words(
    search: Search, values: Sequence[ValueOutcome], best: float | None, worst: float | None, stuck: str | None
) -> str:
    by_value = {value.value: value for value in values}
    parts: list[str] = []
    if stuck is not None:
        parts.append(f"the search stopped: {stuck}")
    if best is not None:
        parts.append(f"at least {search.attainment:.4g} of requests meet the SLO at {_shown(search, by_value[best])}")
    elif stuck is None:
        parts.append(f"not even {_at(search, search.low)} was shown to meet the SLO")
    if best is not None and best == search.high:
        parts.append("that is the highest value asked for")
    if worst is not None:
        parts.append(f"fewer do at {_shown(search, by_value[worst])}")
    undecided = [_at(search, value.value) for value in values if value.said == "undecided"]
    if undecided:
        parts.append(f"too close to tell with so many requests at {', '.join(undecided)}")
    if best is not None or worst is not None:
        parts.append(f"all of this holds with {search.confidence:.4g} confidence")
    return "; ".join(parts)


def _at(search: Search, value: float) -> str:
    return in_words(search.axis, value)


def _shown(search: Search, outcome: ValueOutcome) -> str:
    return f"{_at(search, outcome.value)} ({outcome.met} of {outcome.requests} did)"
