"""A run's request records as JSON or CSV, one at a time, so that a million of them need no memory."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

#: Spreadsheets take text that begins so for a formula, and an engine's error message is a stranger's text.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

#: CSV columns that come as they are in a record.
PLAIN_COLUMNS = (
    "index",
    "process",
    "local_port",
    "scheduled_ns",
    "sent_ns",
    "sent_clock",
    "closed_ns",
    "event_clock",
    "connect_s",
    "client_lag_s",
    "resends",
    "shared_events",
    "planned_input_tokens",
    "engine_input_tokens",
    "local_input_tokens",
    "planned_output_tokens",
    "engine_output_tokens",
    "local_output_tokens",
    "count_source",
    "cached_tokens",
    "input_characters",
    "output_characters",
    "finish_reason",
    "status",
)
#: CSV columns that are read off the events and the failure.
DERIVED_COLUMNS = ("events", "first_event_ns", "last_event_ns", "ttft_s", "e2e_s", "failure_kind", "failure_message")
COLUMNS = PLAIN_COLUMNS + DERIVED_COLUMNS


def as_json(run_id: str, records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """One JSON object with all records in `items`."""
    yield f'{{"run_id":{json.dumps(run_id)},"items":['
    separator = ""
    for record in records:
        yield separator + json.dumps(record, separators=(",", ":"))
        separator = ","
    yield "]}"


def as_csv(records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A header and one line a record; what is missing is empty."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, extrasaction="ignore", lineterminator="\r\n")
    writer.writeheader()
    for record in records:
        writer.writerow({name: _cell(value) for name, value in _row(record).items()})
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    if buffer.tell():
        yield buffer.getvalue()


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    events: Sequence[int] = record.get("event_ns") or []
    sent_ns: int | None = record.get("sent_ns")
    failure = record.get("failure") or {}
    return {name: record.get(name) for name in PLAIN_COLUMNS} | {
        "events": len(events),
        "first_event_ns": events[0] if events else None,
        "last_event_ns": events[-1] if events else None,
        "ttft_s": (events[0] - sent_ns) / 1e9 if events and sent_ns is not None else None,
        "e2e_s": (events[-1] - sent_ns) / 1e9 if events and sent_ns is not None else None,
        "failure_kind": failure.get("kind"),
        "failure_message": failure.get("message"),
    }


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value
