"""Traces of a job over OTLP, where OpenTelemetry's packages are there and an endpoint is named; else nothing at all.

One trace a job. Its id and that of its first span are made from the job's id, so that every worker's spans join it and
nothing has to be kept for that: job ─▶ run ─▶ queue, engine start, plan, warm-up, load, decode, judge, store.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.trace import Tracer

log = logging.getLogger(__name__)

#: (trace, span) of the span that is begun here; `None`: by chance.
_given: ContextVar[tuple[int, int] | None] = ContextVar("given", default=None)

#: Either turns traces on; the rest of OTEL_* is read by OpenTelemetry itself.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

#: Stage of a run -> its span; other stages have none.
SPANS = {
    "opening": "engine start",
    "planning": "plan",
    "warming": "warm-up",
    "measuring": "load",
    "decoding": "decode",
    "calibrating": "judge",
    "done": "store",
}


@dataclass(frozen=True, slots=True)
class RunTrace:
    """What one attempt at a run did, and when: wall time, ns since the epoch."""

    job_id: str
    run_id: str
    attempt: int
    target: str
    #: when it was asked for; `None`: not known
    queued_ns: int | None
    claimed_ns: int
    #: each stage and its beginning, in their order
    stages: Sequence[tuple[str, int]]
    ended_ns: int
    #: "completed", "failed", "cancelled"
    outcome: str
    #: "VALID", …
    verdict: str
    error: str | None


class Traces:
    """Sends spans from a thread of its own, some at a time. What does not get through is told in the log, and lost."""

    def __init__(self, provider: TracerProvider) -> None:
        """`provider`: made by `open_traces`, or by a test."""
        self._provider = provider
        self._tracer: Tracer = provider.get_tracer("enginebench")

    def job_accepted(self, job_id: str, name: str, runs: int, began_ns: int, ended_ns: int) -> None:
        """The first span of a job's trace: from its request to its place in the queue."""
        attributes: dict[str, str | int] = {
            "enginebench.job_id": job_id,
            "enginebench.job": name,
            "enginebench.runs": runs,
        }
        with _given_ids(job_id):
            span = self._tracer.start_span("job accepted", _nothing(), attributes=attributes, start_time=began_ns)
        span.end(ended_ns)

    def run_ended(self, run: RunTrace) -> None:
        """A run and its parts, once it is over."""
        from opentelemetry.trace import Status, StatusCode, set_span_in_context

        about: dict[str, str | int] = {
            "enginebench.job_id": run.job_id,
            "enginebench.run_id": run.run_id,
            "enginebench.attempt": run.attempt,
            "enginebench.target": run.target,
        }
        began_ns = run.claimed_ns if run.queued_ns is None else run.queued_ns
        whole = self._tracer.start_span("run", _within(run.job_id), attributes=about, start_time=began_ns)
        whole.set_attributes({"enginebench.outcome": run.outcome, "enginebench.verdict": run.verdict})
        if run.outcome == "failed":
            whole.set_status(Status(StatusCode.ERROR, run.error))
        inside = set_span_in_context(whole, _nothing())
        for name, from_ns, to_ns in parts_of(run):
            self._tracer.start_span(name, inside, attributes=about, start_time=from_ns).end(to_ns)
        whole.end(run.ended_ns)

    def close(self) -> None:
        """Sends what is left, and ends."""
        self._provider.shutdown()


def parts_of(run: RunTrace) -> list[tuple[str, int, int]]:
    """(name, beginning, end) of each part of a run, wall ns."""
    parts = [] if run.queued_ns is None else [("queue", run.queued_ns, run.claimed_ns)]
    ends = [*(began for _, began in run.stages), run.ended_ns][1:]
    for (stage, began), ended in zip(run.stages, ends, strict=True):
        if stage in SPANS:
            parts.append((SPANS[stage], began, ended))
    return parts


def open_traces(role: str, environment: Mapping[str, str] = os.environ) -> Traces | None:
    """`None` where no endpoint is named; nothing is imported then, or without the packages, which is told.

    Args:
        role: "api" or "worker".
        environment: where OTEL_* are looked for.
    """
    if not any(environment.get(name) for name in ENDPOINTS):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        mend = "pip install -e '.[otel]' in a checkout; for docker compose, LOCK=requirements-otel.lock and a build"
        log.warning("no traces", extra={"reason": "OpenTelemetry is not installed", "mend": mend})
        return None
    return traces_to(BatchSpanProcessor(OTLPSpanExporter()), role)


def traces_to(processor: SpanProcessor, role: str) -> Traces:
    """To any span processor of OpenTelemetry's SDK."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    told = {"service.namespace": "enginebench"}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        told["service.name"] = f"enginebench-{role}"
    provider = TracerProvider(resource=Resource.create(told), id_generator=_id_generator())
    provider.add_span_processor(processor)
    return Traces(provider)


def ids_of(job_id: str) -> tuple[int, int]:
    """(trace, first span) of a job: the same wherever they are asked for, and never 0."""
    digest = hashlib.sha256(f"enginebench job {job_id}".encode()).digest()
    return int.from_bytes(digest[:16], "big") or 1, int.from_bytes(digest[16:24], "big") or 1


@contextmanager
def _given_ids(job_id: str) -> Iterator[None]:
    token = _given.set(ids_of(job_id))
    try:
        yield
    finally:
        _given.reset(token)


def _id_generator() -> IdGenerator:
    """Ids by chance, but where they are given."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            given = _given.get()
            return super().generate_trace_id() if given is None else given[0]

        def generate_span_id(self) -> int:
            given = _given.get()
            return super().generate_span_id() if given is None else given[1]

    return Ids()


def _within(job_id: str) -> Context:
    """What the first span of a job's trace holds, wherever that one was made."""
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    trace_id, span_id = ids_of(job_id)
    first = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(first), _nothing())


def _nothing() -> Context:
    """No parent, whatever else is traced in this process."""
    from opentelemetry.context import Context

    return Context()
