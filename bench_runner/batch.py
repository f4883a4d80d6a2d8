"""One batch of a run: drawn, sent by the load, decoded. Warm-up and window are batches of one shape."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench_runner.errors import LoadFailed, RunCancelled, SpecError
from bench_runner.load.check import check_plan
from bench_runner.load.contract import LoadOutcome, LoadPlan, RunControl, SocketPolicy
from bench_runner.load.fleet import choose_processes, drive_fleet
from bench_runner.measure.record import RequestRecord, record_of
from bench_runner.measure.summary import RunFacts
from bench_runner.plan.arrival import Schedule, measured_window, schedule
from bench_runner.plan.spec import RunSpec, Trace
from bench_runner.plan.tokenizer import LocalTokenizer, Tokenizer
from bench_runner.plan.workload import DrawnWorkload, PlannedRequest, draw
from engines.catalog import encode_request
from engines.clock import monotonic_ns
from engines.contract import Capture, GenerationRequest, Origin, WireRequest
from engines.models import find_model
from engines.target import OpenTarget


@dataclass(frozen=True, slots=True)
class Batch:
    """Everything that stays the same from one batch of a run to the next."""

    spec: RunSpec
    target: OpenTarget
    tokenizer: Tokenizer
    #: tokens the chat template adds to a prompt; 0 for completions
    overhead: int
    control: RunControl
    state_dir: Path
    #: when the run's own time limit runs out
    deadline_ns: int

    @property
    def socket(self) -> SocketPolicy:
        """How requests use TCP."""
        policy = self.spec.workload.socket
        return SocketPolicy(policy.connections == "fresh", policy.quick_ack)

    def draw(self, stream: str) -> DrawnWorkload:
        """The requests of the batch of that name."""
        spec = self.spec
        shape = find_model(spec.target.model)
        stated = self.target.facts.model_max_tokens
        drawn = draw(
            spec.workload,
            seed=spec.seed,
            repeat=spec.repeat,
            attempt=spec.attempt,
            stream=stream,
            tokenizer=self.tokenizer,
            context_tokens=stated or (shape.context if shape else None),
            overhead=self.overhead,
        )
        _check_time(spec, drawn.schedule)
        return drawn

    @contextmanager
    def send(
        self, drawn: DrawnWorkload, *, salvage: Callable[[Iterator[Capture]], None] = lambda _: None
    ) -> Iterator[LoadOutcome]:
        """Drive the target with the batch; its captures are there until the block ends.

        Args:
            drawn: the batch.
            salvage: takes what a load that broke off left in its spool, before LoadFailed goes on.
        """
        limits = self.spec.limits
        planned = drawn.schedule
        left_s = (self.deadline_ns - monotonic_ns()) / 1e9
        if left_s <= 0:
            raise out_of_time()
        try:
            self.state_dir.mkdir(parents=True, exist_ok=True)
            spool = tempfile.TemporaryDirectory(prefix="spool-", dir=self.state_dir)
        except OSError as error:
            raise LoadFailed(f"no spool folder can be made in {self.state_dir}: {error.strerror}") from error
        with spool as folder:
            plan = LoadPlan(
                origin=self.target.origin,
                requests=tuple(self._encode(drawn)),
                offsets_ns=planned.offsets_ns,
                concurrency=planned.concurrency,
                socket=self.socket,
                request_timeout_s=limits.request_timeout_s,
                connect_timeout_s=limits.connect_timeout_s,
                run_timeout_s=left_s,
                spool=Path(folder),
                think_ns=planned.think_ns,
                send_until_ns=planned.send_until_ns,
            )
            try:
                outcome = drive_fleet(plan, self.control)
            except LoadFailed as failure:
                if failure.captures is not None:
                    salvage(failure.captures())
                raise
            yield outcome

    def _encode(self, drawn: DrawnWorkload) -> Iterator[WireRequest]:
        workload, target = self.spec.workload, self.target
        for index, planned in enumerate(drawn.requests):
            request = GenerationRequest(
                model=target.model,
                prompt=planned.prompt,
                max_tokens=planned.max_tokens,
                fixed_length=workload.lengths in ("ignore-eos", "length-matched")
                and target.engine.capabilities.fixed_length,
                temperature=workload.temperature,
                extra=workload.extra_body,
            )
            yield encode_request(
                target.engine,
                target.endpoint,
                request,
                target.origin,
                index=index,
                keep_alive=workload.socket.connections == "reused",
            )

    def decode(self, drawn: DrawnWorkload, outcome: LoadOutcome) -> Iterator[tuple[RequestRecord, bytes]]:
        """Each request's record and raw response, in the order of the plan; not of those the duration left unsent."""
        by_duration = drawn.schedule.send_until_ns is not None and outcome.ended == "complete"
        for capture, planned in zip(outcome.captures(), drawn.requests, strict=True):
            if by_duration and capture.ended == "cancelled" and not capture.sent_ns:
                continue
            yield self.understand(capture, planned), capture.body

    def understand(self, capture: Capture, planned: PlannedRequest) -> RequestRecord:
        """The record of one request."""
        local = self.tokenizer if isinstance(self.tokenizer, LocalTokenizer) else None
        completion = self.target.dialect.decode(capture)
        return record_of(
            capture,
            completion,
            planned_input_tokens=planned.input_tokens,
            planned_output_tokens=planned.max_tokens,
            input_characters=planned.characters,
            local_input_tokens=planned.input_tokens if local else None,
            local_output_tokens=local.count(completion.text) - int(local.bos) if local else None,
        )


def refuse_impossible(spec: RunSpec) -> None:
    """Refuses what the spec alone shows to be impossible, before anything is opened or drawn.

    The rules are those of the load: here for a plan whose requests are empty. When a trace's are sent is known only
    when it has been read.

    Raises:
        SpecError: the sending takes longer than the run may.
        LoadFailed: more connections than files may be open.
    """
    workload = spec.workload
    if isinstance(workload.arrival, Trace):
        return
    planned = schedule(
        workload.arrival,
        workload.requests,
        seed=spec.seed,
        repeat=spec.repeat,
        attempt=spec.attempt,
        duration_s=workload.duration_s,
    )
    _check_time(spec, planned)
    count = workload.requests if planned.offsets_ns is None else len(planned.offsets_ns)
    plan = LoadPlan(
        origin=Origin("http", "", 0, "", ""),
        requests=(WireRequest(0, b""),) * count,
        offsets_ns=planned.offsets_ns,
        concurrency=planned.concurrency,
        socket=SocketPolicy(True, False),
        request_timeout_s=0,
        connect_timeout_s=0,
        run_timeout_s=0,
        spool=Path(),
    )
    check_plan(plan, choose_processes(plan, len(os.sched_getaffinity(0))))


def _check_time(spec: RunSpec, planned: Schedule) -> None:
    sending_s = (planned.span_ns or planned.send_until_ns or 0) / 1e9
    if sending_s >= spec.limits.run_timeout_s:
        raise SpecError(
            f"requests are sent for {sending_s:g} s, and the run may take {spec.limits.run_timeout_s:g} s; "
            "raise limits.run_timeout_s, or send for less",
            field="limits.run_timeout_s",
        )


def facts_of(spec: RunSpec, outcome: LoadOutcome, drawn: DrawnWorkload, *, sent: int) -> RunFacts:
    slo = spec.slo
    window = outcome.window_start_ns, outcome.window_end_ns
    unsent = len(drawn.requests) - sent
    return RunFacts(
        arrival_kind=spec.workload.arrival.kind,
        window=window,
        measured=measured_window(
            drawn.schedule,
            window,
            ramp_up_s=spec.workload.ramp_up_s,
            unsent=unsent,
            complete=outcome.ended == "complete",
        ),
        concurrency=drawn.schedule.concurrency,
        gpus=spec.target.gpus,
        model=spec.target.model,
        hardware=spec.target.hardware,
        precision=spec.target.precision,
        slo_ttft_s=slo.ttft_s if slo else None,
        slo_tpot_s=slo.tpot_s if slo else None,
        slo_e2e_s=slo.e2e_s if slo else None,
    )


def raise_early_end(outcome: LoadOutcome) -> None:
    match outcome.ended:
        case "cancelled":
            raise RunCancelled("cancelled; what was measured until then is kept")
        case "lapsed":
            raise RunCancelled("the lease lapsed, so the load stopped; what was measured until then is kept")
        case "timeout":
            raise out_of_time()


def out_of_time() -> LoadFailed:
    return LoadFailed("the run's own time limit ran out (limits.run_timeout_s)", field="limits.run_timeout_s")
