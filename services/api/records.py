"""A run's request records as JSON or CSV, one at a time, so that a million of them need no memory."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bench_runner.measure.record import TABLE_FIELDS

#: Spreadsheets take text that begins so for a formula, and an engine's error message is a stranger's text.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

#: How many events there were stands in for the lists of them.
COLUMNS = (*TABLE_FIELDS, "events")


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
        row = {name: _cell(record.get(name)) for name in COLUMNS}
        writer.writerow(row | {"events": len(record.get("event_ns") or ())})
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    if buffer.tell():
        yield buffer.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value
