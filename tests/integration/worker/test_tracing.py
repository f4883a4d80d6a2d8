"""A real service and worker send one trace a job, over OTLP, to whatever listens there."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from engines.simulated.start import simulated_engine
from services.telemetry.traces import ids_of
from tests.fakes.service import await_true, free_port, running_service

WORKLOAD = {
    "name": "tiny",
    "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 16}},
    "output_tokens": {"kind": "fixed", "tokens": 8},
    "requests": 4,
    "arrival": {"kind": "burst"},
}
PARTS = ["queue", "engine start", "plan", "warm-up", "load", "decode", "judge", "store"]


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, Span]]]]:
    """An OTLP receiver: its URL, and (service, span) of all that came."""
    found: list[tuple[str, Span]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            told = ExportTraceServiceRequest()
            told.ParseFromString(body)
            for resource in told.resource_spans:
                of = {one.key: one.value.string_value for one in resource.resource.attributes}["service.name"]
                found.extend((of, span) for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", found
        finally:
            server.shutdown()
            thread.join()


def test_a_job_is_one_trace_from_its_request_to_its_last_result(tmp_path: Path) -> None:
    with collector() as (url, found), simulated_engine("vllm-qwen2.5-7b", speed=8) as server:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        with running_service(f"sqlite:///{tmp_path}/x.sqlite", tmp_path / "state", settings=settings) as service:
            reach = {"kind": "attached", "url": server.url}
            well = {"name": "well", "engine": "vllm", "model": server.model, "reach": reach}
            gone = well | {"name": "gone", "reach": {"kind": "attached", "url": f"http://127.0.0.1:{free_port()}"}}
            job_id = service.submit(targets=[well, gone], workloads=[WORKLOAD])
            job = service.await_job(job_id)
            assert job["counts"] == {"completed": 1, "failed": 1}
            ended = service.client.get("/v1/runs", params={"job": job_id}).json()["items"]
            (service_error,) = [run["error"] for run in ended if run["target"] == "gone"]
            runs_are_in = lambda: sum(span.name == "run" for _, span in found) == 2  # noqa: E731
            await_true(runs_are_in, 30.0, service.log_tail)
    trace_id, first = ids_of(job_id)
    assert {span.trace_id for _, span in found} == {trace_id.to_bytes(16, "big")}
    (accepted,) = [span for of, span in found if span.name == "job accepted" and of == "enginebench-api"]
    assert (accepted.span_id, accepted.parent_span_id) == (first.to_bytes(8, "big"), b"")
    told = {}
    for of, span in found:
        if span.name == "run":
            attributes = {one.key: one.value.string_value for one in span.attributes}
            told[attributes["enginebench.target"]] = (span, attributes)
            assert (of, span.parent_span_id) == ("enginebench-worker", accepted.span_id)
    run, attributes = told["well"]
    assert attributes["enginebench.outcome"] == "completed"
    parts = [span for _, span in found if span.parent_span_id == run.span_id]
    assert [span.name for span in parts] == PARTS
    for one, after in pairwise(parts):
        assert one.start_time_unix_nano <= one.end_time_unix_nano <= after.end_time_unix_nano
    failed, attributes = told["gone"]
    assert attributes["enginebench.outcome"] == "failed"
    assert failed.status.code == Status.STATUS_CODE_ERROR
    assert failed.status.message == service_error


def test_a_collector_that_is_away_costs_a_job_nothing(tmp_path: Path) -> None:
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with (
        simulated_engine("vllm-qwen2.5-7b", speed=8) as server,
        running_service(f"sqlite:///{tmp_path}/x.sqlite", tmp_path / "state", settings=settings) as service,
    ):
        reach = {"kind": "attached", "url": server.url}
        well = {"name": "well", "engine": "vllm", "model": server.model, "reach": reach}
        job = service.await_job(service.submit(targets=[well], workloads=[WORKLOAD]))
        assert job["counts"] == {"completed": 1}
