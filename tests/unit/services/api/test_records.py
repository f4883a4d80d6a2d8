"""Records as CSV: one line each, missing is empty, nothing a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import json

from bench_runner.measure.record import to_json
from engines.contract import Failure, FailureKind
from services.api.records import COLUMNS, as_csv, as_json
from tests.fakes.records import make_record


def test_json_is_one_object_however_many_records() -> None:
    for count in (0, 1, 3):
        rows = [to_json(make_record(k)) for k in range(count)]
        whole = json.loads("".join(as_json('run-"1"', rows)))
        assert whole == {"run_id": 'run-"1"', "items": json.loads(json.dumps(rows))}


def test_csv_has_every_column_and_empty_cells_for_what_is_missing() -> None:
    rows = [to_json(make_record(0)), to_json(make_record(1, events_ms=(), failure=FailureKind.TIMEOUT))]
    read = list(csv.DictReader(io.StringIO("".join(as_csv(rows)))))
    assert tuple(read[0]) == COLUMNS
    assert (read[0]["ttft_s"], read[0]["events"], read[0]["failure_kind"]) == ("0.1", "3", "")
    assert (read[1]["ttft_s"], read[1]["events"], read[1]["failure_kind"]) == ("", "0", "timeout")


def test_a_strangers_text_is_no_formula() -> None:
    failure = Failure(FailureKind.ENGINE_ERROR, '=HYPERLINK("http://evil.example")', 200)
    row = to_json(make_record()) | {"failure_message": failure.message}
    (read,) = csv.DictReader(io.StringIO("".join(as_csv([row]))))
    assert read["failure_message"].startswith("'=")


def test_no_records_are_a_header() -> None:
    assert "".join(as_csv([])) == ",".join(COLUMNS) + "\r\n"
