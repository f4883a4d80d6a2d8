"""RequestRecords with plain numbers: everything a success has, in whole milliseconds from a given start."""

from __future__ import annotations

from typing import Any

from bench_runner.measure.record import RequestRecord
from engines.contract import Failure, FailureKind

#: the window's first moment
START_NS = 1_000_000_000_000


def make_record(
    index: int = 0,
    *,
    sent_ms: float | None = 0,
    events_ms: tuple[float, ...] = (100, 200, 300),
    failure: FailureKind | None = None,
    **other: Any,
) -> RequestRecord:
    """A record sent and answered at the given milliseconds after START_NS, one token an event; `other` overrides."""

    def at(ms: float) -> int:
        return START_NS + round(ms * 1e6)

    values: dict[str, Any] = {
        "index": index,
        "process": 0,
        "local_port": 40_000 + index,
        "scheduled_ns": START_NS if sent_ms is None else at(sent_ms),
        "sent_ns": None if sent_ms is None else at(sent_ms),
        "sent_clock": "user",
        "event_clock": "kernel" if events_ms else "",
        "event_ns": tuple(at(ms) for ms in events_ms),
        "event_tokens": (1,) * len(events_ms),
        "shared_events": 0,
        "merged_events": 0,
        "client_wait_s": 0.0,
        "closed_ns": at(events_ms[-1] + 1) if events_ms else None,
        "connect_s": None,
        "client_lag_s": None,
        "resends": 0,
        "planned_input_tokens": 10,
        "engine_input_tokens": 10,
        "local_input_tokens": None,
        "planned_output_tokens": len(events_ms),
        "engine_output_tokens": len(events_ms),
        "local_output_tokens": None,
        "count_source": "usage",
        "cached_tokens": None,
        "input_characters": 40,
        "output_characters": 5 * len(events_ms),
        "finish_reason": "length",
        "status": 200,
        "failure": Failure(failure, f"a {failure.value} failure") if failure else None,
    }
    return RequestRecord(**(values | other))
