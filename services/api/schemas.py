"""What the API answers with: a promise to callers, apart from the rows. What it takes is in `services.domain`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from bench_runner.plan.spec import WorkloadSpec
from services.domain.target import TARGET_EXAMPLE, NamedTarget

Item = TypeVar("Item")


class Answer(BaseModel):
    """Base of every answer: read off the rows by name."""

    model_config = ConfigDict(from_attributes=True)


class PageOut(Answer, Generic[Item]):
    """One page of a list."""

    items: list[Item]
    next: str | None = Field(description="give it back as `cursor` for what follows; null: this was the last page")


class Metrics(Answer):
    """Hot metrics of a run, in seconds and tokens a second; null: the run did not give it."""

    duration_s: float | None = None
    input_tokens_per_s: float | None = None
    output_tokens_per_s: float | None = None
    total_tokens_per_s: float | None = None
    ttft_p50_s: float | None = None
    ttft_p95_s: float | None = None
    ttft_p99_s: float | None = None
    tpot_p50_s: float | None = None
    tpot_p95_s: float | None = None
    tpot_p99_s: float | None = None
    e2e_p50_s: float | None = None
    e2e_p95_s: float | None = None
    e2e_p99_s: float | None = None
    roofline_ratio: float | None = None
    requests: int | None = None
    successes: int | None = None
    total_input_tokens: int | None = None
    total_output_tokens: int | None = None


class RunOut(Answer):
    """One run, as lists show it."""

    id: str
    job_id: str
    job_name: str
    labels: dict[str, str]
    position: int = Field(description="place in the job's order, from 0")
    priority: int
    status: str = Field(description="queued, running, completed, failed or cancelled", examples=["completed"])
    engine: str
    model: str
    target: str
    workload: str
    hardware: str | None
    precision: str | None
    endpoint: str | None
    repeat: int
    simulated: bool | None = Field(description="null until a result is there")
    validity: str | None = Field(description="VALID, INVALID or INCONCLUSIVE; null until a result is there")
    reason_codes: list[str]
    metrics: Metrics
    failures: dict[str, int] | None = Field(description="failure kind -> requests; only kinds that occurred")
    error: str | None
    attempt: int
    worker: str | None
    cancel_requested: bool
    progress: dict[str, Any] | None
    resources: list[str]
    lengths_from: str | None
    spec_digest: str
    workload_digest: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class AttemptOut(Answer):
    """One carrying-out of a run by a worker."""

    attempt: int
    worker: str
    started_at: datetime
    ended_at: datetime | None
    ended: str | None


class RunDetailOut(RunOut):
    """One run with its spec, the whole RunResult and its attempts."""

    spec: dict[str, Any]
    result: dict[str, Any] | None = Field(description="the RunResult, with its schema_version; null until there is one")
    attempts: list[AttemptOut]
    records: int = Field(description="request records kept; 0 without a result")


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


class RunState(Answer):
    """One run of a job, short."""

    id: str
    position: int
    target: str
    workload: str
    repeat: int
    status: str
    validity: str | None
    reason_codes: list[str]
    progress: dict[str, Any] | None
    error: str | None


class SpreadOut(Answer):
    """One metric over the repeats of a cell; every repeat is one sample."""

    n: int = Field(description="repeats that gave it")
    median: float
    min: float
    max: float
    relative: float | None = Field(description="half the range over the median; null for one repeat")


class CellOut(Answer):
    """One target × one workload of a job; its repeats together."""

    target: str
    workload: str
    engine: str
    model: str
    hardware: str | None
    simulated: bool | None
    repeats: int
    ended: int
    valid: int
    rankable: bool = Field(description="every repeat ended and all of them are VALID")
    basis: str = Field(description='"valid": metrics over VALID runs; "not valid": none is, so over all results')
    metrics: dict[str, SpreadOut] = Field(description="hot metric, as a run's `metrics` name it -> median and spread")
    figures: dict[str, SpreadOut] = Field(description='every figure that all repeats gave, such as "ttft_s.p50"')


class JobDetailOut(JobOut):
    """One job with its runs' states and the summary over repeats."""

    spec: dict[str, Any]
    runs: list[RunState]
    cells: list[CellOut]


class TargetOut(NamedTarget):
    """A stored target."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**TARGET_EXAMPLE, "created_at": "2026-01-31T12:00:00Z"}]}
    )

    created_at: datetime


class ProbeOut(Answer):
    """What one short generation showed."""

    target: str
    ok: bool
    simulated: bool | None
    failure: str | None = Field(description="failure kind, in the words of a request's failure", examples=["connect"])
    message: str | None
    figures: dict[str, Any]


class WorkloadOut(Answer):
    """A preset."""

    name: str
    description: str
    spec: WorkloadSpec


class EngineOut(Answer):
    """One kind of server: what it can do and how it is reached."""

    name: str
    title: str
    endpoints: list[str] = Field(description="the first is the default")
    launchable: bool = Field(description="the worker knows its command line")
    capabilities: dict[str, Any]
    docs_url: str


class Health(Answer):
    """The process is there."""

    status: str = "ok"


class Readiness(Answer):
    """The service can do its work."""

    status: str
    checks: dict[str, str] = Field(description='check -> "ok" or what is wrong')
