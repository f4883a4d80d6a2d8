"""What is known of a run so far, and the RunOutcome it ends with. A run that fails keeps what was learned."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from bench_runner.errors import RunCancelled, RunError, TargetFailed
from bench_runner.measure.calibration import Calibration
from bench_runner.measure.evidence import Evidence
from bench_runner.measure.record import RequestRecord, to_json
from bench_runner.measure.result import Reason, RunResult, Validity, ValidityState
from bench_runner.measure.summary import RunFacts, summarise
from bench_runner.measure.validity import judge
from bench_runner.plan.spec import RunSpec, digest
from engines.clock import utc_now

#: Raw bytes kept of one response: its head and, of a longer one, as much of its end, where a stream broke.
MOST_RAW_BYTES = 256 * 1024
#: stands where the middle was left out
RAW_GAP = b"\n[...]\n"


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """A run's result, its records, and why it ended early where it did."""

    result: RunResult
    records: tuple[RequestRecord, ...]
    #: request index -> raw response: of failed requests, of all where the spec asks for it
    raw: Mapping[int, bytes]
    #: `None` where the run went to its end, whatever its requests did
    error: RunError | None

    def record_rows(self) -> Iterator[dict[str, Any]]:
        """One flat JSON object a request; `raw_base64` where the raw response was kept."""
        for record in self.records:
            row = to_json(record)
            if (raw := self.raw.get(record.index)) is not None:
                row["raw_base64"] = base64.b64encode(raw).decode("ascii")
            yield row


@dataclass(slots=True)
class Notebook:
    """What a run has learned so far. Written by the runner as it goes, closed once."""

    spec: RunSpec
    started_at: datetime
    environment: dict[str, Any] = field(default_factory=dict)
    #: which start of its engine it belongs to, as `HeldServer.describe` gives it; `None`: the run had one of its own,
    #: or its server was there
    start: dict[str, Any] | None = None
    #: the last that its engine wrote, at its start or by the run's end; `None`: it was not started for the run
    engine_log: str | None = None
    prompts_digest: str | None = None
    notes: list[str] = field(default_factory=list)
    records: list[RequestRecord] = field(default_factory=list)
    raw: dict[int, bytes] = field(default_factory=dict)
    #: what the window was like; `None` until there was one
    facts: RunFacts | None = None
    evidence: Evidence | None = None
    #: response bytes of all records
    received_bytes: int = 0
    #: `None`: not asked for, or not possible; a note says why
    calibration: Calibration | None = None
    #: what the engine said of itself over the window, and below "cards" what the driver said of its cards; `None`:
    #: neither says anything, or there was no window
    telemetry: dict[str, Any] | None = None
    #: takes the target's token out of whatever the target said
    redact: Callable[[str], str] = str
    #: throughput of each warm-up batch, output tokens a second
    warmup_output_tokens_per_s: list[float | None] = field(default_factory=list)

    def keep(self, record: RequestRecord, raw: bytes) -> None:
        """Keep a record, and the response's bytes where it failed or the spec asks for all; no token in either."""
        if record.failure is not None:
            failure = replace(record.failure, message=self._storable(record.failure.message))
            record = replace(record, failure=failure)
        self.records.append(record)
        self.received_bytes += len(raw)
        if raw and (self.spec.keep_raw or not record.ok):
            if len(raw) > MOST_RAW_BYTES:
                raw = raw[: MOST_RAW_BYTES // 2] + RAW_GAP + raw[-MOST_RAW_BYTES // 2 :]
            kept = raw.decode("utf-8", "surrogateescape")
            self.raw[record.index] = self.redact(kept).encode("utf-8", "surrogateescape")

    def close(self, error: RunError | None) -> RunOutcome:
        """The outcome: measured and judged where there was a window, failed with a reason where there was none."""
        summary: dict[str, Any] = {}
        failures: dict[str, int] = {}
        if self.facts is not None:
            summary, failures = summarise(self.records, self.facts)
        elif isinstance(error, TargetFailed) and error.failure is not None:
            failures = {error.failure.kind.value: 1}
        result = RunResult(
            spec=self.spec.model_dump(mode="json"),
            spec_digest=digest(self.spec),
            workload_digest=digest(self.spec.workload),
            prompts_digest=self.prompts_digest,
            environment=self._storable(
                {
                    **self.environment,
                    **({} if self.start is None else {"start": self.start}),
                    **({} if self.engine_log is None else {"engine_log": self.engine_log}),
                    "warmup_output_tokens_per_s": self.warmup_output_tokens_per_s,
                }
            ),
            summary=summary,
            failures=failures,
            validity=self._judged(error, summary),
            started_at=self.started_at.isoformat(),
            ended_at=utc_now().isoformat(),
            outcome=_outcome(error),
            error=None if error is None else self._storable(str(error)),
            notes=tuple(self._storable(note) for note in self.notes),
            calibration=self.calibration.describe(summary) if self.calibration else None,
            telemetry=self.telemetry,
        )
        return RunOutcome(result, tuple(self.records), self.raw, error)

    def _judged(self, error: RunError | None, summary: Mapping[str, Any]) -> Validity:
        if self.evidence is not None:
            # A simulated engine divides by the roofline itself, so its ratio proves nothing.
            simulated = self.environment.get("simulated")
            ratio = None if simulated else summary.get("roofline_ratio")
            return judge(replace(self.evidence, roofline_ratio=ratio, calibration=self.calibration))
        match error:
            case TargetFailed():
                code = "target_failed"
            case RunCancelled():
                code = "cancelled"
            case _:
                code = "run_failed"
        return Validity(ValidityState.INVALID, (Reason(code, "invalid", self._storable(str(error))),))

    def _storable(self, value: Any) -> Any:
        """Every text in plain JSON types without the target's token, NUL and half surrogate pairs.

        An engine may say anything of itself; neither a database nor UTF-8 can carry the last two.
        """
        match value:
            case str():
                return self.redact(value).replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
            case dict():
                return {self._storable(key): self._storable(item) for key, item in value.items()}
            case list() | tuple():
                return [self._storable(item) for item in value]
            case _:
                return value


def _outcome(error: RunError | None) -> str:
    if error is None:
        return "completed"
    return "cancelled" if isinstance(error, RunCancelled) else "failed"
