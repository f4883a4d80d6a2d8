"""What the database keeps, as the rest of the service reads it: one frozen dataclass a row. All `*_at` aware, UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from bench_runner.plan.spec import RunSpec

Row = TypeVar("Row")


class RunStatus(StrEnum):
    """Where a run is. The last three are its end, and stay."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


#: A run in one of these will not move any more.
ENDED = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED)


@dataclass(frozen=True, slots=True)
class Job:
    """What a person asked for. Its status is derived from its runs."""

    id: str
    name: str
    #: the body as it was posted
    spec: Mapping[str, Any]
    labels: Mapping[str, str]
    priority: int
    created_at: datetime
    #: "queued" (nothing started), "running", "completed", "failed" (a run failed), "cancelled" (a run was, none failed)
    status: str
    #: run status -> count; only statuses that occur
    counts: Mapping[str, int]
    #: first run started; `None`: none has
    started_at: datetime | None
    #: last run ended; `None`: not all have
    ended_at: datetime | None
    cancel_requested_at: datetime | None
    idempotency_key: str | None
    #: {"id", "name"} of the key it came with, the id `None` for one of the environment's; `None`: it came without
    created_by: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class RunMetrics:
    """Hot metrics of a result, one column each; `None`: the run did not give it. Names as in METRICS."""

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


@dataclass(frozen=True, slots=True)
class Run:
    """One run as lists show it: no spec, no Summary (`RunDetail` has them)."""

    id: str
    job_id: str
    job_name: str
    labels: Mapping[str, str]
    #: place in the job's order, from 0
    position: int
    priority: int
    status: RunStatus
    engine: str
    model: str
    target: str
    workload: str
    #: `None`: not stated
    hardware: str | None
    precision: str | None
    endpoint: str | None
    #: "as-shipped" or "matched", as its target states it: like is compared with like
    flag_class: str
    repeat: int
    spec_digest: str
    #: `None` until a result is there
    workload_digest: str | None
    #: `None` until a result is there
    simulated: bool | None
    #: what it occupies while it runs
    resources: tuple[str, ...]
    #: id of the run whose output lengths this one asks for
    lengths_from: str | None
    created_at: datetime
    #: start of the newest attempt; `None`: never claimed
    started_at: datetime | None
    ended_at: datetime | None
    #: attempts so far, the one under way included
    attempt: int
    #: who runs it, or ran it last
    worker: str | None
    cancel_requested: bool
    #: what the worker last said: {"stage", "sent", "finished", "failed", "requests", …}; `None`: nothing yet
    progress: Mapping[str, Any] | None
    #: "VALID", "INVALID" or "INCONCLUSIVE"; `None` until a result is there
    validity: str | None
    #: reason codes, notes included
    reason_codes: tuple[str, ...]
    metrics: RunMetrics
    #: failure kind -> count; only kinds that occurred; `None` until a result is there
    failures: Mapping[str, int] | None
    #: in words, where it failed or was cancelled
    error: str | None
    #: the workload's name without its point, where the job has a sweep or a search; `None`: it has neither
    series: str | None = None
    #: where on the job's axis
    point: float | None = None
    #: requests in flight at once: a closed loop's slots, all of a burst; `None`: an open loop, which has no such number
    concurrency: int | None = None
    #: what the engine said of itself; `None`: nothing, or no result yet
    engine_version: str | None = None
    #: when a person left it out of rankings, and why; `None` both: nobody did
    excluded_at: datetime | None = None
    excluded_note: str | None = None
    #: which start of its target it belongs to, and which burst of its cell it is there, from 0, as the job asked for
    #: them; `None` both: the job has no starts
    start: int | None = None
    burst: int | None = None
    #: names the start of the engine that it was really carried out in; `None`: no starts, or no result yet
    start_id: str | None = None

    @property
    def is_ranked(self) -> bool:
        """It counts where runs are held against each other: VALID, and nobody left it out."""
        return self.validity == "VALID" and self.excluded_at is None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One carrying-out of a run by a worker. The pair (run, attempt) fences its result."""

    attempt: int
    worker: str
    started_at: datetime
    ended_at: datetime | None
    #: "result", "released" (drained), "lost" (its lease lapsed), "superseded" (its result came after another's), `None`
    ended: str | None


@dataclass(frozen=True, slots=True)
class RunDetail:
    """A run with everything but its records."""

    run: Run
    #: RunSpec as JSON, the target as it was
    spec: Mapping[str, Any]
    #: RunResult as JSON; `None` until there is one
    result: Mapping[str, Any] | None
    attempts: tuple[Attempt, ...]
    #: request records kept; 0 without a result
    records: int


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs a list shows. `None` or empty: all. Several values of one field: any of them."""

    engine: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    workload: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    hardware: tuple[str, ...] = ()
    flag_class: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    validity: tuple[str, ...] = ()
    job: str | None = None
    #: key -> value, all of them
    labels: Mapping[str, str] = field(default_factory=dict)
    simulated: bool | None = None
    #: left out of rankings by a person
    excluded: bool | None = None
    #: created at or after
    since: datetime | None = None
    #: created before
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """One page of a list."""

    items: tuple[Row, ...]
    #: give it back for what follows; `None`: this was the last page
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class StoredTarget:
    """A named target."""

    name: str
    #: TargetSpec as JSON
    spec: Mapping[str, Any]
    description: str
    created_at: datetime


class Fence(Protocol):
    """One worker's attempt at a run: what it may still say is judged by these three."""

    @property
    def run_id(self) -> str:
        """The run."""

    @property
    def attempt(self) -> int:
        """Raised by every claim."""

    @property
    def worker(self) -> str:
        """Who claimed it."""


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run that this worker now owns, together with every resource it occupies, until the lease ends. A Fence."""

    run_id: str
    job_id: str
    attempt: int
    worker: str
    #: with `attempt` and, where lengths are matched, the lengths filled in
    run_spec: RunSpec
    #: its target's name in the job
    target: str
    #: which start of its target it belongs to; `None`: the job has no starts
    start: int | None = None


@dataclass(frozen=True, slots=True)
class Renewal:
    """The database's answer to a renewal."""

    #: False: the run was taken over, ended or is gone; stop, nothing will be kept unless no other result is there
    owned: bool
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class WorkerHost:
    """What a worker's host has for it; `None`: not said."""

    #: how many files its load process may open; `None` too where there is no limit
    open_files: int | None = None
    #: of the file system that its state folder is on
    state_free_bytes: int | None = None
    state_size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker's heartbeat."""

    name: str
    started_at: datetime
    seen_at: datetime
    #: seconds since it was seen, on the database's clock
    silent_s: float
    #: what it runs now; `None`: idle
    run_id: str | None
    version: str
    host: WorkerHost = WorkerHost()
