"""RunResults as JSON, from a real spec, real records and the real summary: what a run of the mission's batch gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bench_runner.measure.environment import describe
from bench_runner.measure.evidence import Evidence
from bench_runner.measure.record import RequestRecord
from bench_runner.measure.result import RunResult
from bench_runner.measure.summary import RunFacts, summarise
from bench_runner.measure.validity import judge
from bench_runner.plan.spec import FixedLength, RunSpec, SyntheticPrompts, WorkloadSpec, digest
from engines.spec import Attached, TargetSpec
from tests.fakes.records import make_record


def make_result(
    records: Sequence[RequestRecord] | None = None,
    *,
    target: dict[str, Any] | None = None,
    workload: dict[str, Any] | None = None,
    version: str | None = "0.32.0",
    simulated: bool = False,
    took_ms: float = 1000,
    **spec: Any,
) -> dict[str, Any]:
    """A VALID run of 10 requests unless told otherwise.

    Args:
        target: over the target's fields.
        workload: over the workload's fields.
        took_ms: when each request's last of three tokens came.
        spec: over the RunSpec's own fields.
    """
    if records is None:
        records = [make_record(k, events_ms=(took_ms / 10, took_ms / 2, took_ms)) for k in range(10)]
    target_spec = TargetSpec.model_validate(
        {
            "engine": "vllm",
            "model": "mistralai/Mistral-7B-Instruct-v0.2",
            "reach": Attached(url="http://127.0.0.1:8000"),
            "hardware": "A100-80GB",
            "precision": "BF16",
        }
        | (target or {})
    )
    workload_spec = WorkloadSpec.model_validate(
        {
            "name": "tiny",
            "requests": len(records) or 1,
            "prompts": SyntheticPrompts(input_tokens=FixedLength(tokens=10)),
            "output_tokens": FixedLength(tokens=3),
        }
        | (workload or {})
    )
    run = RunSpec(target=target_spec, workload=workload_spec, **spec)
    arrival = workload_spec.arrival
    facts = RunFacts(
        arrival.kind,
        concurrency=getattr(arrival, "concurrency", None),
        model=target_spec.model,
        hardware=target_spec.hardware,
        precision=target_spec.precision,
    )
    summary, failures = summarise(records, facts)
    validity = judge(Evidence(records, arrival_kind=arrival.kind, lengths=workload_spec.lengths))
    result = RunResult(
        spec=run.model_dump(mode="json"),
        spec_digest=digest(run),
        workload_digest=digest(workload_spec),
        prompts_digest=None,
        environment=describe("127.0.0.1", server={"version": version}, run={"simulated": simulated}),
        summary=summary,
        failures=failures,
        validity=validity,
        started_at="2026-01-01T00:00:00+00:00",
        ended_at="2026-01-01T00:00:01+00:00",
        outcome="completed",
    )
    whole: dict[str, Any] = json.loads(json.dumps(result.to_json()))
    return whole
