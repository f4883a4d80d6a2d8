"""What the API answers with, a promise to callers apart from the rows; on jobs see `job_schemas`, on what it takes
`services.domain`."""

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
    output_tokens_per_s_per_gpu: float | None = None
    tokens_per_s_per_user_p50: float | None = None
    joules_per_output_token: float | None = None
    output_tokens_per_s_per_w: float | None = None
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
    flag_class: str = Field(
        description="as-shipped or matched, as the target states it; as-shipped where it states none",
        examples=["matched"],
    )
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
    series: str | None = Field(description="the workload's name without its point; null: no sweep and no search")
    point: float | None = Field(description="where on the axis of the job's sweep or search")
    concurrency: int | None = Field(description="requests in flight: a closed loop's slots, a burst's all; else null")
    engine_version: str | None = Field(description="as the engine said; null: it did not, or there is no result yet")
    excluded_at: datetime | None = Field(description="when a person left it out of rankings; null: nobody did")
    excluded_note: str | None = Field(description="why it was left out")
    start: int | None = Field(description="which start of its target the job wants it in, from 0; null: no starts")
    burst: int | None = Field(description="which burst of its target × workload it is in that start, from 0")
    start_id: str | None = Field(
        description="names the start of the engine that it was really carried out in; null: no starts, or no result yet"
    )
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
    result: dict[str, Any] | None = Field(
        description="the RunResult, with its schema_version; null until there is one. Its `telemetry` is what the "
        "engine said of itself: `series` over the window, `counters` before and after the load, and `server`: its own "
        "mean time to first token and queue time, KV cache, prefix cache and preemptions; null where it does not tell"
    )
    attempts: list[AttemptOut]
    records: int = Field(description="request records kept; 0 without a result")


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
