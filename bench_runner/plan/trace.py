"""A recorded load: when each request came, and how long it was. Errors name file and line, never what stands there.

Own JSONL ("offsets"): `offset_s` from the window's start, and where wanted `input_tokens` and `output_tokens`; a field
of any other name is an error. Mooncake's JSONL: `timestamp` (ms), `input_length`, `output_length`. Azure's CSV of LLM
inference: columns `TIMESTAMP`, `ContextTokens`, `GeneratedTokens`. What else those two carry is passed over, and their
first row is the window's start.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from bench_runner.errors import DatasetError
from bench_runner.plan.spec import Trace

_FIELD = "workload.arrival.path"
_MAX_TOKENS = 10_000_000
_MAX_LINE_BYTES = 2**20
#: A moment that still is one in whole nanoseconds.
_MAX_OFFSET_S = 1e9
_AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One request of a trace."""

    #: from the window's start, `time_scale` applied
    offset_s: float
    #: `None`: the workload's own length holds
    input_tokens: int | None
    output_tokens: int | None


def read_trace(trace: Trace, *, most: int | None = None, duration_s: float | None = None) -> tuple[TraceRow, ...]:
    """The rows of a trace in their order, as far as they are needed.

    Args:
        trace: which file, and how to read it.
        most: no more rows than so many.
        duration_s: only rows that come before it.

    Raises:
        DatasetError: unreadable, malformed (with the line), moments that fall, or no row at all.
    """
    file = Path(trace.path)
    rows: list[TraceRow] = []
    first_s: float | None = None
    for number, at_s, inputs, outputs in _read(file, trace.format):
        first_s = (0.0 if trace.format == "offsets" else at_s) if first_s is None else first_s
        offset_s = (at_s - first_s) * trace.time_scale
        if rows and offset_s < rows[-1].offset_s:
            _refuse(file, number, "its moment is before that of the row above; sort the file by time")
        if offset_s > _MAX_OFFSET_S:
            _refuse(file, number, "its moment is more than 30 years after the start; give a smaller time_scale")
        if (most is not None and len(rows) >= most) or (duration_s is not None and offset_s >= duration_s):
            break
        rows.append(TraceRow(offset_s, inputs, outputs))
    if not rows:
        limit = "" if duration_s is None else f" within {duration_s:g} s"
        _refuse(file, None, f"there is no request in it{limit}; give a file with at least one")
    return tuple(rows)


_Row = tuple[int, float, int | None, int | None]


def _read(file: Path, form: str) -> Iterator[_Row]:
    """(line, moment in s, input tokens, output tokens) of each row."""
    lines = _lines(file)
    if form == "azure":
        yield from _azure(file, lines)
        return
    names = ("offset_s", "input_tokens", "output_tokens")
    if form == "mooncake":
        names = ("timestamp", "input_length", "output_length")
    for number, line in lines:
        row = _object(file, number, line)
        if form == "offsets" and (unknown := sorted(row.keys() - set(names))):
            _refuse(file, number, f"unknown field {unknown[0][:40]!a}; known are {', '.join(names)}")
        moment_s = _moment(file, number, names[0], row.get(names[0]))
        yield (
            number,
            moment_s / 1e3 if form == "mooncake" else moment_s,
            _tokens(file, number, names[1], row.get(names[1]), needed=form == "mooncake"),
            _tokens(file, number, names[2], row.get(names[2]), needed=form == "mooncake"),
        )


def _azure(file: Path, lines: Iterator[tuple[int, str]]) -> Iterator[_Row]:
    _, heading = next(lines, (1, ""))
    columns = [name.strip() for name in _cells(file, 1, heading)]
    if missing := [name for name in _AZURE_COLUMNS if name not in columns]:
        _refuse(file, 1, f"no column {missing[0]}; the first line must name {', '.join(_AZURE_COLUMNS)}")
    when, inputs, outputs = (columns.index(name) for name in _AZURE_COLUMNS)
    for number, line in lines:
        cells = _cells(file, number, line)
        if len(cells) != len(columns):
            _refuse(file, number, f"{len(cells)} columns where the first line names {len(columns)}")
        yield (
            number,
            _azure_moment_s(file, number, cells[when]),
            _tokens(file, number, _AZURE_COLUMNS[1], _whole(cells[inputs]), needed=True),
            _tokens(file, number, _AZURE_COLUMNS[2], _whole(cells[outputs]), needed=True),
        )


def _azure_moment_s(file: Path, number: int, cell: str) -> float:
    try:
        at = datetime.fromisoformat(cell.strip())
    except ValueError:
        _refuse(file, number, "TIMESTAMP is no date and time such as 2023-11-16 18:15:46.68")
    # Without a zone it is taken as UTC: only differences count.
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, with their number, from 1."""
    try:
        if file.exists() and not file.is_file():
            _refuse(file, None, "not a regular file; give the path of a trace file")
        with file.open("rb") as source:
            number = 0
            while raw := source.readline(_MAX_LINE_BYTES + 1):
                number += 1
                if len(raw) > _MAX_LINE_BYTES:
                    _refuse(file, number, f"longer than {_MAX_LINE_BYTES} bytes, no line of a trace")
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    _refuse(file, number, "not UTF-8; save the file as UTF-8")
                if line.strip():
                    yield number, line
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        _refuse(file, None, f"cannot be read: {reason}; give the path of a readable file")


def _object(file: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        where = f": {error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        _refuse(file, number, f"not JSON{where}")
    if not isinstance(row, dict):
        _refuse(file, number, "not a JSON object")
    return row


def _cells(file: Path, number: int, line: str) -> list[str]:
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error as error:
        _refuse(file, number, f"not CSV: {error}")


def _whole(cell: str) -> int | str:
    text = cell.strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else text


def _moment(file: Path, number: int, name: str, value: object) -> float:
    # Above 1e15 it is no moment in any unit, and an integer may be too large to be a float at all.
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1e15:
        _refuse(file, number, f"{name} must be a number from 0")
    return float(value)


def _tokens(file: Path, number: int, name: str, value: object, *, needed: bool) -> int | None:
    if value is None and not needed:
        return None
    if type(value) is not int or not 1 <= value <= _MAX_TOKENS:
        _refuse(file, number, f"{name} must be a whole number from 1 to {_MAX_TOKENS}")
    return value


def _refuse(file: Path, line: int | None, problem: str) -> NoReturn:
    where = f"{file}, line {line}" if line is not None else f"{file}"
    raise DatasetError(f"trace {where}: {problem}", field=_FIELD)
