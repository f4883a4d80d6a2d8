"""A job's spans, whoever makes them, are one trace; without an endpoint there is nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.telemetry.traces import RunTrace, Traces, ids_of, open_traces, parts_of, traces_to

STAGES = ("opening", "planning", "warming", "measuring", "decoding", "calibrating", "done")
RUN = RunTrace(
    job_id="j",
    run_id="j-00001",
    attempt=1,
    target="a",
    queued_ns=1_000,
    claimed_ns=2_000,
    stages=[(stage, 3_000 + 1_000 * number) for number, stage in enumerate(STAGES)],
    ended_ns=11_000,
    outcome="completed",
    verdict="VALID",
    error=None,
)


def sent(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def made(role: str) -> tuple[Traces, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    return traces_to(SimpleSpanProcessor(exporter), role), exporter


def test_what_api_and_worker_tell_is_one_trace() -> None:
    api, from_api = made("api")
    worker, from_worker = made("worker")
    api.job_accepted("j", "compare", 4, 500, 900)
    worker.run_ended(RUN)
    (accepted,) = from_api.get_finished_spans()
    spans = sent(from_worker)
    run = spans.pop("run")
    assert (accepted.name, accepted.start_time, accepted.end_time) == ("job accepted", 500, 900)
    assert accepted.parent is None
    assert accepted.context is not None
    assert (accepted.context.trace_id, accepted.context.span_id) == ids_of("j")
    assert run.parent is not None
    assert run.context is not None
    assert (run.parent.trace_id, run.parent.span_id) == ids_of("j")
    assert (run.start_time, run.end_time) == (1_000, 11_000)
    assert {span.parent.span_id for span in spans.values() if span.parent} == {run.context.span_id}
    assert {span.context.trace_id for span in spans.values() if span.context} == {ids_of("j")[0]}
    assert [(name, span.start_time, span.end_time) for name, span in spans.items()] == [
        ("queue", 1_000, 2_000),
        ("engine start", 3_000, 4_000),
        ("plan", 4_000, 5_000),
        ("warm-up", 5_000, 6_000),
        ("load", 6_000, 7_000),
        ("decode", 7_000, 8_000),
        ("judge", 8_000, 9_000),
        ("store", 9_000, 11_000),
    ]
    assert run.attributes is not None
    assert dict(run.attributes) == {
        "enginebench.job_id": "j",
        "enginebench.run_id": "j-00001",
        "enginebench.attempt": 1,
        "enginebench.target": "a",
        "enginebench.outcome": "completed",
        "enginebench.verdict": "VALID",
    }
    assert run.resource.attributes["service.name"] == "enginebench-worker"


def test_two_jobs_are_two_traces() -> None:
    assert ids_of("a") != ids_of("b")
    assert all(0 < one < 2**bits for one, bits in zip(ids_of("a"), (128, 64), strict=True))


def test_a_run_that_failed_says_why() -> None:
    worker, exporter = made("worker")
    failed = {"outcome": "failed", "verdict": "INVALID", "error": "it is gone", "stages": [("opening", 3_000)]}
    worker.run_ended(RunTrace(**{**{name: getattr(RUN, name) for name in RUN.__slots__}, **failed}))
    run = sent(exporter)["run"]
    assert (run.status.is_ok, run.status.description) == (False, "it is gone")


def test_a_run_that_came_to_no_stage_and_whose_queueing_is_not_known_has_no_parts() -> None:
    bare = RunTrace(**{**{name: getattr(RUN, name) for name in RUN.__slots__}, "queued_ns": None, "stages": []})
    assert parts_of(bare) == []


def test_without_an_endpoint_there_is_nothing_and_nothing_is_imported() -> None:
    code = (
        "import sys; from services.telemetry.traces import open_traces; "
        "print(open_traces('api'), 'opentelemetry' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={"PATH": "/usr/bin"}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "False"]


def test_without_the_packages_it_is_told_how_to_have_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert open_traces("api", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}) is None
    assert "pip install -e '.[otel]'" in caplog.records[0].mend  # type: ignore[attr-defined]
