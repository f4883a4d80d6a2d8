"""What the API answers with on jobs: their runs' states, what their runs sum up to, curves, what a dry run says."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from services.api.schemas import Answer


class CreatorOut(Answer):
    """The API key that a job came with."""

    id: str | None = Field(description="public id of a stored key; null: a key of the environment")
    name: str = Field(examples=["ci"])


class JobOut(Answer):
    """One job, as lists show it."""

    id: str
    name: str
    labels: dict[str, str]
    priority: int
    status: str = Field(description="queued, running, completed, failed or cancelled", examples=["running"])
    counts: dict[str, int] = Field(description="run status -> runs; only statuses that occur")
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    cancel_requested_at: datetime | None
    created_by: CreatorOut | None = Field(description="the key it came with; null: it came without one")


class RunState(Answer):
    """One run of a job, short."""

    id: str
    position: int
    target: str
    workload: str
    point: float | None = Field(description="where on the axis of the job's sweep or search; null: it has neither")
    repeat: int
    start: int | None = Field(description="which start of its target the job wants it in, from 0; null: no starts")
    burst: int | None = Field(description="which burst of its target × workload it is in that start, from 0")
    start_id: str | None = Field(description="names the start that it was really carried out in")
    status: str
    validity: str | None
    reason_codes: list[str]
    progress: dict[str, Any] | None
    error: str | None


class SpreadOut(Answer):
    """One metric over the repeats of a cell: every repeat is one sample, or every start of the engine."""

    n: int = Field(description="samples that gave it: repeats, or starts")
    median: float = Field(description="over samples; a start's value is the median of its bursts")
    min: float
    max: float
    relative: float | None = Field(description="half the range over the median; null for one sample")
    bursts: int | None = Field(description="bursts behind the starts; null: no starts, every run is a sample")
    relative_within: float | None = Field(
        description="the same among the bursts of one start, the median over starts; null: no start has two"
    )
    interval: tuple[float, float] | None = Field(
        description="95 % confidence interval for the mean of starts, by Student's t with starts - 1 degrees of "
        "freedom; null: no starts, or one"
    )


class StartOut(Answer):
    """One start of an engine, and what its bursts of one workload gave."""

    id: str = Field(description="as the runs' start_id")
    number: int | None = Field(
        description="which of the target's starts the job had asked for, from 0; two of one number: it was cut short"
    )
    engine_started: bool = Field(
        description="false: the server was there, and this is a block of runs on it: blocks tell how it drifts, and "
        "nothing of how its starts differ"
    )
    runs: list[str] = Field(description="ids of its bursts, in their order")
    valid: int = Field(description="bursts that count: VALID, and left out by nobody")
    metrics: dict[str, SpreadOut] = Field(description="over its bursts; those on which the cell's own rest")


class CellOut(Answer):
    """One target × one workload of a job; its repeats together."""

    target: str
    workload: str
    series: str | None = Field(description="the workload's name without its point; null: no sweep and no search")
    point: float | None = Field(description="where on the axis of the job's sweep or search")
    engine: str
    model: str
    hardware: str | None
    simulated: bool | None
    repeats: int
    ended: int
    valid: int = Field(description="repeats that count: VALID, and left out by nobody")
    excluded: int = Field(description="repeats that a person left out of rankings")
    starts: list[StartOut] = Field(
        description="starts of the engine as they were, the first one first; empty: the job has none, or no result yet"
    )
    rankable: bool = Field(description="every repeat that nobody left out ended and is VALID, and there is one")
    basis: str = Field(description='"valid": metrics over VALID runs; "not valid": none is, so over all results')
    metrics: dict[str, SpreadOut] = Field(description="hot metric, as a run's `metrics` name it -> median and spread")
    figures: dict[str, SpreadOut] = Field(description='every figure that all repeats gave, such as "ttft_s.p50"')


class SearchValueOut(Answer):
    """What a search's runs at one value say of it."""

    value: float = Field(description="a concurrency, or requests a second")
    said: str = Field(
        description='"meets", "fails", "undecided" (too close to tell), "unusable" (its runs are not VALID), "open"'
    )
    runs: int
    valid: int
    requests: int = Field(description="requests that count, over its runs")
    met: int = Field(description="of these, requests that kept every limit of the SLO")
    effective: float = Field(description="how many independent requests they are worth")
    attainment_low: float = Field(description="the true share is above it, with the confidence of one test")
    attainment_high: float = Field(description="the true share is below it, with the confidence of one test")


class SearchOut(Answer):
    """The search of one target × workload, so far or ended."""

    target: str
    workload: str
    axis: str = Field(description="concurrency or rate_per_s")
    state: str = Field(
        description='"searching"; "stopped" (cancelled); "found"; "all_meet": even the highest value; "none_meets": '
        'not even the lowest; "inconclusive"'
    )
    highest_meeting: float | None = Field(description="the highest value that was shown to meet the SLO")
    lowest_failing: float | None = Field(description="the lowest value that was shown not to")
    confidence: float = Field(description="that all that is said of all values holds")
    attainment: float = Field(description="share of requests that must meet the SLO")
    probes: int = Field(description="runs so far, those under way included")
    values: list[SearchValueOut]
    words: str = Field(description="all of it in a sentence")


class AsymmetryOut(Answer):
    """What is not alike between a job's targets and may explain a difference of their numbers."""

    subject: str = Field(examples=["prefix cache"])
    values: dict[str, str] = Field(
        description="target -> how it is there, in words", examples=[{"vllm-mistral-7b": "off", "tgi-mistral-7b": "on"}]
    )
    words: str = Field(examples=["prefix cache: vllm-mistral-7b: off; tgi-mistral-7b: on"])
    workloads: list[str] = Field(description="under which of the job's workloads", examples=[["burst-100x128x128"]])


class JobAcceptedOut(JobOut):
    """A job that was accepted, and what its targets are not alike in as far as their specs say."""

    asymmetries: list[AsymmetryOut]


class StepOut(Answer):
    """One run of a job that was only asked about."""

    position: int = Field(description="place in the job's order, from 0")
    target: str
    workload: str
    point: float | None
    repeat: int
    start: int | None = Field(description="which start of its target it is in, from 0; null: no starts")
    burst: int | None = Field(description="which burst of its target × workload it is in that start, from 0")
    requests: int = Field(description="of the load, warm-up left out")
    resources: list[str] = Field(description="what it holds for itself meanwhile")
    starts: str | None = Field(
        description="what is started for it, and stopped after it or after the last burst of its start; null: it is up"
    )
    waits_for: int | None = Field(description="position of the run that gives its output lengths")
    words: str


class DryRunOut(Answer):
    """What a job would do. Nothing was queued."""

    runs: int
    steps: list[StepOut] = Field(description="in the job's order; runs on other resources may go on beside them")
    notes: list[str]
    asymmetries: list[AsymmetryOut]


class JobDetailOut(JobOut):
    """One job with its runs' states and the summary over repeats."""

    spec: dict[str, Any]
    runs: list[RunState]
    cells: list[CellOut]
    searches: list[SearchOut] = Field(description="one for each target × workload of a job with a search")
    asymmetries: list[AsymmetryOut] = Field(
        description="what its targets are not alike in; the flags that servers were found with go before stated ones"
    )


class LeftOutOut(Answer):
    """A run that has ended and does not count."""

    run_id: str
    state: str = Field(description="INVALID, INCONCLUSIVE or excluded; without a result: failed or cancelled")
    codes: list[str]
    why: str = Field(description="in words")


class CurvePointOut(Answer):
    """One value of the axis: each figure's median and spread over its VALID runs; null: no VALID run gave it."""

    value: float = Field(description="a concurrency, or requests a second")
    workload: str = Field(description="the workload of its runs, as cells and runs name it")
    runs: int
    ended: int
    valid: int
    simulated: bool | None = Field(description="null until a result is there")
    output_tokens_per_s: SpreadOut | None
    output_tokens_per_s_per_gpu: SpreadOut | None
    sustained_output_tokens_per_s: SpreadOut | None = Field(description="while every slot decodes; no fill, no drain")
    tokens_per_s_per_user: SpreadOut | None = Field(description="p50 over the requests of a run: interactivity")
    requests_per_s: SpreadOut | None
    goodput_requests_per_s: SpreadOut | None
    ttft_p50_s: SpreadOut | None
    ttft_p99_s: SpreadOut | None
    tpot_p50_s: SpreadOut | None
    tpot_p99_s: SpreadOut | None
    p99_supported: bool = Field(description="each run has the requests that a p99 takes (459)")
    left_out: list[LeftOutOut]


class SeriesOut(Answer):
    """One target × workload along the axis."""

    target: str
    workload: str
    engine: str
    model: str
    hardware: str | None
    simulated: bool | None
    points: list[CurvePointOut] = Field(description="the lowest value first")


class CurveOut(Answer):
    """The throughput-interactivity curve of a job."""

    job_id: str
    axis: str = Field(description="concurrency or rate_per_s", examples=["concurrency"])
    series: list[SeriesOut]
