"""Jobs, runs and results to put into a store, without a target or a load."""

from __future__ import annotations

from typing import Any

from bench_runner.plan.spec import RunSpec
from services.domain.job import PlannedRun
from services.store.database import Database
from services.store.jobs import enqueue
from services.store.rows import Job

URL = "http://127.0.0.1:8000"


def run_spec(
    engine: str = "vllm", model: str = "mistral", hardware: str | None = None, repeat: int = 0, url: str = URL
) -> RunSpec:
    """A small burst on a target that is not there."""
    return RunSpec.model_validate(
        {
            "target": {
                "engine": engine,
                "model": model,
                "reach": {"kind": "attached", "url": url},
                "hardware": hardware,
            },
            "workload": {
                "name": "burst",
                "requests": 2,
                "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 8}},
                "output_tokens": {"kind": "fixed", "tokens": 8},
            },
            "repeat": repeat,
        }
    )


def planned(
    position: int = 0,
    *,
    spec: RunSpec | None = None,
    target: str = "target",
    workload: str = "burst",
    resources: tuple[str, ...] | None = None,
    lengths_from: int | None = None,
    start: int | None = None,
    burst: int | None = None,
) -> PlannedRun:
    """One run of a job; without a spec or resources given it has a server and a resource of its own."""
    return PlannedRun(
        position=position,
        spec=spec or run_spec(url=f"http://127.0.0.1:{8000 + position}"),
        target_name=target,
        workload_name=workload,
        resources=(f"own:{position}",) if resources is None else resources,
        lengths_from=lengths_from,
        start=start,
        burst=burst,
    )


def put(database: Database, *runs: PlannedRun, **more: Any) -> Job:
    """A job of these runs, or of one."""
    given: dict[str, Any] = {"spec": {"name": "test"}, "name": "test", "labels": {}, "priority": 0} | more
    return enqueue(database, runs=runs or (planned(),), **given)[0]


def result(outcome: str = "completed", rate: float | None = 1000.0, **more: Any) -> dict[str, Any]:
    """A RunResult as JSON."""
    validity = {"state": "VALID", "reasons": [{"code": "early_eos", "severity": "note", "message": "short"}]}
    latency = {"n": 2, "mean": 0.2, "p50": 0.2, "p90": 0.3, "p95": 0.3, "p99": 0.4, "min": 0.1, "max": 0.4}
    return {
        "spec": {},
        "spec_digest": "5bec",
        "workload_digest": "30ad",
        "prompts_digest": None,
        "environment": {"simulated": True},
        "summary": {
            "duration_s": 1.5,
            "output_tokens_per_s": rate,
            "ttft_s": latency,
            "tpot_s": None,
            "requests": 2,
            "successes": 2,
            "total_output_tokens": 16,
        },
        "failures": {"timeout": 1},
        "validity": validity,
        "started_at": "2026-01-01T00:00:00+00:00",
        "ended_at": "2026-01-01T00:00:02+00:00",
        "outcome": outcome,
        "error": None,
        "notes": [],
        "schema_version": 1,
    } | more


def record(index: int, output_tokens: int | None = 8, failure_kind: str | None = None) -> dict[str, Any]:
    """One request's record, as far as the store reads it."""
    return {
        "index": index,
        "planned_output_tokens": 8,
        "engine_output_tokens": output_tokens,
        "failure_kind": failure_kind,
    }
