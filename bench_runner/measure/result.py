"""RunResult: what one run gives, and its JSON. The shape is a promise: `SCHEMA_VERSION` counts its changes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

SCHEMA_VERSION = 1


class ValidityState(StrEnum):
    """What a run says of itself. Only VALID runs are ranked."""

    VALID = "VALID"
    INVALID = "INVALID"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing the run noticed about itself."""

    #: stable, such as "failures", "send_lag", "tokens_off_plan"
    code: str
    #: "invalid", "inconclusive" or "note": only notes leave a run VALID
    severity: str
    #: in words, with the figure and the limit
    message: str


@dataclass(frozen=True, slots=True)
class Validity:
    """The checks a run passed or failed about itself."""

    state: ValidityState
    #: what took the state from VALID, then notes
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Distribution:
    """A metric over requests. A distribution of nothing is `None`, never this with zeros."""

    n: int
    mean: float
    stddev: float | None
    min: float
    p50: float
    p90: float
    p95: float
    p99: float
    #: the 99.9th
    p999: float
    max: float
    #: percentile name -> the sample is independent and large enough to claim it
    supported: dict[str, bool]


@dataclass(frozen=True, slots=True)
class RunResult:
    """RunSpec + Environment + Summary + Validity.

    `summary` holds one entry a row of METRICS: a number, a Distribution as a dict, or `None`; and the counts
    `requests`, `successes`, `total_input_tokens`, `total_output_tokens`.
    """

    spec: dict[str, Any]
    spec_digest: str
    workload_digest: str
    #: digest of the realised prompts; `None` where the run never got to draw them
    prompts_digest: str | None
    environment: dict[str, Any]
    summary: dict[str, Any]
    #: failure kind -> count; only kinds that occurred
    failures: dict[str, int]
    validity: Validity
    started_at: str
    ended_at: str
    #: "completed", "failed", "cancelled"
    outcome: str
    #: in words, where the outcome is not "completed"
    error: str | None = None
    notes: tuple[str, ...] = ()
    #: the client's own error in this run, as `Calibration.describe` gives it; `None`: not calibrated, a note says why
    calibration: dict[str, Any] | None = None
    #: the engine's own gauges and counters over the window, before it and after it, its own TTFT and queue time, as
    #: `describe_telemetry` gives them, and below "cards" what the driver said of its cards; `None`: neither is there
    telemetry: dict[str, Any] | None = None
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """The RunResult as plain JSON types."""
        return asdict(self)
